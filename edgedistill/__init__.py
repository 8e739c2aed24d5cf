"""edgedistill: distil a vision teacher into a student proven to meet a latency budget on a device."""

__version__ = "0.1.0"
