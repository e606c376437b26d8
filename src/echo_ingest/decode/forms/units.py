"""The units of measurements: which ends of names say one.

A name that ends in its unit, as `battery_percent` does, cannot be taken for another, and stays the
same where a table has no column for units. So the unit is read from the end of the name where the
form itself gives the name. Where the name comes from the message, the form says the unit.
"""

UNITS_BY_END = {
    "percent": "%",
    "celsius": "°C",
    "volts": "V",
    "millivolts": "mV",
    "amperes": "A",
    "milliamperes": "mA",
    "watts": "W",
    "milliwatts": "mW",
    "watt_hours": "Wh",
    "db": "dB",
    "dbm": "dBm",
    "hz": "Hz",
    "khz": "kHz",
    "hpa": "hPa",
    "lux": "lx",
    "metres": "m",
    "millimetres": "mm",
    "metres_per_second": "m/s",
    "degrees": "°",
    "seconds": "s",
    "milliseconds": "ms",
    "bytes": "B",
    "ppm": "ppm",
    "micrograms_per_cubic_metre": "µg/m³",
}
"""The end of a name → the unit. No end is that of another with a _ before it."""
COUNT_END = "count"
"""A name with this end has no unit."""


def unit_of(name: str) -> str | None:
    """Return the unit that a name ends in; None where it says none."""
    fitting = (end for end in UNITS_BY_END if name == end or name.endswith(f"_{end}"))
    return UNITS_BY_END.get(next(fitting, ""))
