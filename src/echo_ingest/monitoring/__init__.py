"""What is measured while the system runs: the loopback check, the broker, the nodes."""
