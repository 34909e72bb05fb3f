"""What can go wrong with TLS, from OpenSSL's words into ours."""

from __future__ import annotations

import re
import ssl

# What OpenSSL calls it, and what we do.
_OURS = {
    "NO_SHARED_CIPHER": "no cipher in common",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "no signature algorithm in common",
    "UNSUPPORTED_PROTOCOL": "the {peer} speaks only versions of TLS that are too old",
    "VERSION_TOO_LOW": "the {peer} speaks only versions of TLS that are too old",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the {peer} sent no certificate",
    "WRONG_VERSION_NUMBER": "what the {peer} sends is no TLS",
    "PACKET_LENGTH_TOO_LONG": "what the {peer} sends is no TLS",
    "RECORD_LAYER_FAILURE": "what the {peer} sends is no TLS",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "what came was changed on its way",
}
# The alerts of RFC 8446, 6.2, that a user can do something about.
_ALERTS = {
    "PROTOCOL_VERSION": "the {peer} wants another version of TLS",
    "HANDSHAKE_FAILURE": "the {peer} refuses: handshake failure "
    "(no certificate? no cipher in common?)",
    "CERTIFICATE_REQUIRED": "the {peer} wants a certificate, and got none",
    "UNKNOWN_CA": "the {peer} does not trust our certificate: it does not know its CA",
    "BAD_CERTIFICATE": "the {peer} does not trust our certificate",
    "CERTIFICATE_UNKNOWN": "the {peer} does not trust our certificate",
    "CERTIFICATE_EXPIRED": "the {peer} does not trust our certificate: it has expired",
    "CERTIFICATE_REVOKED": "the {peer} does not trust our certificate: it is revoked",
    "UNRECOGNIZED_NAME": "the {peer} has no certificate for that name",
}
#: For the alert no_application_protocol (RFC 7301, 3.2), for which CPython 3.11 has no name.
NO_PROTOCOL = "the server speaks none of the protocols that we offer (ALPN)"

_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?(.+)")


def explain(error: ssl.SSLError, *, server_side: bool) -> str:
    """What OpenSSL found, in words. `server_side` says which end we are."""
    peer = "client" if server_side else "server"
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message.rstrip(".")
        return f"can't trust the {peer}'s certificate: {reason}"
    reason = error.reason or ""
    if reason in _OURS:
        return _OURS[reason].format(peer=peer)
    if alert := _ALERT.fullmatch(reason):
        words = _ALERTS.get(alert[1], "the {peer} refuses: " + _in_words(alert[1]))
        return words.format(peer=peer)
    return f"TLS has failed: {_in_words(reason) or 'no reason is known'}"


def _in_words(name: str) -> str:
    return name.lower().replace("_", " ")
