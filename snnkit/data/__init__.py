"""Events and spikes as time-first batches."""
