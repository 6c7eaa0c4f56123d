from .augmentation.random_views import register_augmentation as register_augmentation
from .data.catalogue.layouts import Layout as Layout
from .data.catalogue.layouts import register_layout as register_layout
from .models.own_networks import register_network as register_network
from .training.losses import register_loss as register_loss

__all__: list[str]
