"""What runs will cost before they run: FLOPs, time, memory, disk, GPUs."""
