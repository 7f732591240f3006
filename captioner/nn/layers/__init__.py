"""Layers that several decoders share: attention, image injection, recurrent stacks, the output layer."""
