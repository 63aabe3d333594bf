"""What a block is made of beside its token mixer: MLPs, experts, Canon convolutions; positions and caches."""
