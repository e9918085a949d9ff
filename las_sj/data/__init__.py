"""What goes in and comes out: texts, batches, output folders."""
