"""What every engine, stream and server must do, within the test's own process."""
