"""What every engine must honour, shown by real server processes over real sockets."""
