"""The proxy: devices connect to it, and it passes on to mosquitto what keeps within the limits.

mosquitto reads a packet as a whole and makes an object of each property, whatever its size, and 2.0
does so before it asks for a password. So nobody but the proxy speaks to mosquitto's parser unseen:
what is not payload must fit into 64 KiB, and a connection that has not logged in holds little.
"""
