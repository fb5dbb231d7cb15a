"""The demo's data: two small databases with real text."""

from b2m.demo.build import create_demo

__all__ = ["create_demo"]
