"""What is measured of the running system: the loopback check, the broker, the nodes."""
