"""Experiments of the literature on normalization, each one command: `python -m experiments`.

- `_registry` lists the experiments and says what the module of an experiment must have.
- `_run` writes the folder of a run.
- `_sweep` trains many small networks at once, `_classification` one classifier after another.
- `_figures` draws.
- `data` reads real data.
"""
