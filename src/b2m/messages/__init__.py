"""Messages and dead-man pings: sent by the machine on which a command was started, beside the work."""

from b2m.messages.delivery import Delivery

__all__ = ["Delivery"]
