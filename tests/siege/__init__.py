"""The siege: all attacks at once on the real programs under their memory limits, and good devices.

`limits` reads the limits that we ship, `site` starts the programs in them, `good` are the devices
whose messages must all arrive, `attackers` are programs of their own, which `schedule` lets loose
by a seed; `watch` follows health and memory, `run` puts it together and leaves `evidence`, which
`judge` judges.
"""
