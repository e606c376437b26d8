"""Echo Ingest: what field devices publish over MQTT, made durable and passed on, once."""

__version__ = "0.1.0"
