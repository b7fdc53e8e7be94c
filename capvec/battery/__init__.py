"""Questions beside the tasks, which measure what a vector costs elsewhere."""

from capvec.battery.items import BUNDLED, Item, load_items

__all__ = ["BUNDLED", "Item", "load_items"]
