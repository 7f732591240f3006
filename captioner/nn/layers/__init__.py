"""Building blocks that several decoders share: attention, injection, recurrent stacks, the output layer."""
