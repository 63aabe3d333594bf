"""Knowledge in bits per parameter, and the planner that turns the law round."""

from probing.capacity.bits_per_parameter import Capacity

__all__ = ["Capacity"]
