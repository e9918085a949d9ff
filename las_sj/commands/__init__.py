"""The commands, and what they share: `las_sj.convert`, … are their doors."""
