"""Experiments of the literature on normalization, each one command: `python -m experiments`.

Where to look: `_registry` lists them and says what an experiment's file has to have; `_run` is the
folder that a run writes; `_sweep` trains many small networks at once; `_figures` draws;
`data` reads real data.
"""
