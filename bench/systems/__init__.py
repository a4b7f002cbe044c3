"""Systems on real data: input is a config and its public data, output is a scored artefact and its
numbers. Imports every package; nothing imports it."""
