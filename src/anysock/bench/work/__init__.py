"""What servers are made to do in a comparison, and who makes them do it."""
