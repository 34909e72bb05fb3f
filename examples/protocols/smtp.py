"""An SMTP server that receives mail for its domains, and keeps it in a Maildir (RFC 5321).

    python smtp.py -b 127.0.0.1:2525 --domain example.org --maildir mail
    python smtp.py … --tls-cert cert.pem --tls-key key.pem    (offers STARTTLS: RFC 3207)

With PIPELINING (RFC 2920), SIZE (1870), 8BITMIME (6152), ENHANCEDSTATUSCODES (2034). Nothing but
CRLF . CRLF ends a message, and one with a bare CR or LF is refused: what one server takes for the
end of a message, and the next one does not, lets mail be forged (CVE-2023-51764).
"""

import argparse
import email.utils
import mailbox
import platform
import re
import threading

import anysock

NAME = platform.node()
# RFC 5321, 4.5.3; lengths without CRLF. The parameters SIZE and BODY make MAIL longer.
MAX_COMMAND, MAX_TEXT_LINE, MAX_MESSAGE = 512 + 26 + 17 - 2, 998, 10 << 20
MAX_RECIPIENTS, IDLE_SECONDS = 100, 300

GO_AHEAD, BEGIN_TLS = "354 end it with a dot on a line of its own", "220 2.0.0 begin TLS"
GOOD_BYE, CLOSING = "221 2.0.0 good bye", "421 4.3.2 closing"
LAST_OF_A_BATCH = (GO_AHEAD, BEGIN_TLS, GOOD_BYE, CLOSING)
TOO_LARGE = f"552 5.3.4 a message has at most {MAX_MESSAGE} bytes"

HOST = re.compile(r"[\w.:\[\]-]{1,255}", re.ASCII)  # as EHLO gives it, and as a header may have it
# A path, with what is before it, and parameters. Its source route is left out (appendix C).
PATH = re.compile(
    r'(FROM|TO): ?<(?:@[^:>\s]+:)?(|(?:[^\s<>@"]+|"(?:[^"\\]|\\.)+")(?:@[^\s<>@"]+)?)>((?: \S+)*)',
    re.IGNORECASE,
)
OTHERS = {"NOOP": "250 2.0.0 here", "VRFY": "252 2.5.0 send it, and see", "QUIT": GOOD_BYE}
OTHERS |= dict.fromkeys(("STARTTLS", "EXPN", "HELP", "AUTH"), "502 5.5.1 not here")
END_OF_TEXT = b"\r\n.\r\n"


class Client:
    """What a client has said, and how it is answered: tested without a connection."""

    def __init__(self, domains: set[str], *, over_tls: bool, can_start_tls: bool) -> None:
        self.domains, self.over_tls, self.can_start_tls = domains, over_tls, can_start_tls
        self.name = self.protocol = ""
        self.forget()

    def forget(self) -> None:
        self.sender: str | None = None
        self.recipients: list[str] = []

    def answer(self, line: bytes) -> str:
        """The answer to a command. Some mean that there is more to do."""
        # With a control character in a name, a header of the message would end there: 4.1.2.
        if not re.fullmatch(rb"[\t -~]*\r\n", line):
            return "500 5.5.2 a command is printable ASCII, and ends with CR LF"
        verb, _, rest = line.decode().rstrip().partition(" ")
        match verb.upper():
            case "EHLO" | "HELO" as verb if HOST.fullmatch(rest):
                return self.hello(rest, extended=verb == "EHLO")
            case "EHLO" | "HELO":
                return "501 5.5.4 say who you are"
            case "MAIL" if not self.name or self.sender is not None:
                return "503 5.5.1 EHLO comes first, and one message at a time"
            case "RCPT" if self.sender is None:
                return "503 5.5.1 MAIL comes first"
            case "MAIL" | "RCPT":
                return self.path(rest)
            case "DATA" | "RSET" | "STARTTLS" | "QUIT" if rest:
                return "501 5.5.4 there are no parameters"
            case "DATA":
                return GO_AHEAD if self.recipients else "503 5.5.1 RCPT comes first"
            case "STARTTLS" if self.can_start_tls:
                return BEGIN_TLS
            case "RSET":
                self.forget()
                return "250 2.0.0 forgotten"
        return OTHERS.get(verb.upper(), "500 5.5.1 no such command")

    def hello(self, name: str, *, extended: bool) -> str:
        self.forget()
        self.name = name
        self.protocol = ("ESMTPS" if self.over_tls else "ESMTP") if extended else "SMTP"
        offers = ["PIPELINING", f"SIZE {MAX_MESSAGE}", "8BITMIME"]
        offers += ["STARTTLS"] * self.can_start_tls
        lines = [NAME, *offers, "ENHANCEDSTATUSCODES"] if extended else [NAME]
        return "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}"

    def path(self, text: str) -> str:
        """The answer to MAIL or RCPT, of which `text` is the rest."""
        path, of_sender = PATH.fullmatch(text), self.sender is None
        if path is None or (path[1].upper() == "FROM") != of_sender or len(path[2]) > 254:
            return f"501 5.5.4 write {'MAIL FROM' if of_sender else 'RCPT TO'}:<name@domain>"
        for parameter in path[3].upper().split():
            size = re.fullmatch(r"SIZE=(\d{1,20})", parameter, re.ASCII)
            if not of_sender or not (size or parameter in ("BODY=7BIT", "BODY=8BITMIME")):
                return "555 5.5.4 no such parameter"
            if size and int(size[1]) > MAX_MESSAGE:
                return TOO_LARGE
        if of_sender:
            self.sender = path[2]
            return "250 2.1.0 and to whom?"
        # For other domains, it would be an open relay. Postmaster needs none: 4.5.1.
        domain = path[2].rpartition("@")[2].lower()
        if domain not in self.domains and path[2].lower() != "postmaster":
            return "550 5.7.1 not served here"
        if len(self.recipients) == MAX_RECIPIENTS:
            return "452 4.5.3 send it to the others by another MAIL"
        self.recipients.append(path[2])
        return "250 2.1.5 and to whom else?"


async def skip_past(connection: anysock.Connection, end: bytes) -> None:
    """Receive up to `end`, however far that is, and keep nothing of it."""
    while True:
        try:
            await connection.recv_until(end)
            return
        except anysock.MessageTooLong as error:
            skipped = await connection.recv(error.limit)
            connection.unread(skipped[len(skipped) - len(end) + 1 :])  # `end` may have begun there


class MailServer:
    def __init__(self, domains: list[str], maildir: str, *, offers_tls: bool) -> None:
        self.domains = {domain.lower() for domain in domains}
        self.offers_tls = offers_tls
        self.maildir, self.lock = mailbox.Maildir(maildir), threading.Lock()  # it counts its files

    async def serve(self, connection: anysock.Connection) -> None:
        client = Client(self.domains, over_tls=False, can_start_tls=self.offers_tls)
        replies = [f"220 {NAME} ESMTP"]
        while True:
            last = replies[-1]
            # RFC 2920: commands that have come together are answered together.
            if last in LAST_OF_A_BATCH or b"\n" not in connection.peek(MAX_COMMAND + 2):
                await connection.send_all("".join(f"{each}\r\n" for each in replies).encode())
                replies = []
            if last in (GOOD_BYE, CLOSING):
                return
            if last == BEGIN_TLS:
                await connection.start_tls(server_side=True)  # refuses what has come with STARTTLS
                # RFC 3207, 4.2: what was said in plain text is forgotten.
                client = Client(self.domains, over_tls=True, can_start_tls=False)
            receive = self.receive_text if last == GO_AHEAD else self.receive_command
            replies.append(await receive(connection, client))

    async def receive_command(self, connection: anysock.Connection, client: Client) -> str:
        try:
            line = await connection.recv_line(MAX_COMMAND)
        except anysock.LineTooLong:
            await skip_past(connection, b"\n")
            return f"500 5.5.2 a command has at most {MAX_COMMAND} bytes"
        # The stream may end as the client leaves, and as this server ends.
        return client.answer(line) if line.endswith(b"\n") else CLOSING

    async def receive_text(self, connection: anysock.Connection, client: Client) -> str:
        peer = connection.peer[0] if isinstance(connection.peer, tuple) else "local"
        trace = f"Return-Path: <{client.sender}>\n"  # 4.4
        trace += "".join(f"Delivered-To: {recipient}\n" for recipient in client.recipients)
        trace += f"Received: from {client.name} ([{peer}]) by {NAME}\n"
        trace += f"\twith {client.protocol}; {email.utils.formatdate()}\n"
        client.forget()
        connection.unread(b"\r\n")  # so that an empty text ends as others do
        try:
            text = await connection.recv_until(END_OF_TEXT, max_bytes=MAX_MESSAGE)
        except anysock.MessageTooLong:
            await skip_past(connection, END_OF_TEXT)
            return TOO_LARGE
        return await anysock.to_thread(self.keep, trace.encode(), text)

    def keep(self, trace: bytes, text: bytes) -> str:
        """Write a message to the disk, which takes its time; return the answer to its text."""
        lines = [line.removeprefix(b".") for line in text.split(b"\r\n")[1:-2]]  # 4.5.2
        if any(b"\r" in line or b"\n" in line for line in lines):
            return "554 5.6.0 CR and LF end a line, and neither stands alone"
        if any(len(line) > MAX_TEXT_LINE for line in lines):
            return f"500 5.6.0 a line has at most {MAX_TEXT_LINE} bytes"
        try:
            with self.lock:
                self.maildir.add(trace + b"\n".join([*lines, b""]))
        except (OSError, mailbox.Error):
            return "451 4.3.0 it can't be kept; try again later"
        return "250 2.0.0 kept"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-b", "--bind", default="127.0.0.1:2525")
    parser.add_argument("-e", "--engine", default="selector")
    parser.add_argument("--domain", action="append", default=["localhost"])
    parser.add_argument("--maildir", default="mail")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    options = vars(parser.parse_args())
    has_tls = options["tls_cert"] is not None
    server = MailServer(options.pop("domain"), options.pop("maildir"), offers_tls=has_tls)
    anysock.serve(server.serve, idle_timeout=IDLE_SECONDS, **options)
