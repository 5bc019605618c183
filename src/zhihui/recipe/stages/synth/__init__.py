"""synth: examples made by teachers, a stage for each method."""
