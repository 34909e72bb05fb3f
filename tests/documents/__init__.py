"""What the documents say is true: their programs run, their sessions are typed, the site builds."""
