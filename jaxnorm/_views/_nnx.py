"""An nnx model as linen shows one: collections of variables, and a pure call."""

import dataclasses
import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxnorm._views._intercept import (
    Path,
    Sown,
    is_intercepting,
    make_visible,
    modules_of,
    name_of,
)
from jaxnorm.typing import Array, PyTree

_COLLECTIONS = {
    nnx.Param: "params",
    nnx.BatchStat: "batch_stats",
    nnx.RngState: "rngs",
    nnx.Cache: "cache",
    nnx.Intermediate: "intermediates",
}
BATCH_MOMENTS = "batch_moments"


@dataclasses.dataclass(frozen=True)
class NnxApply:
    """Calls an nnx model as a pure function of its variables, as `apply` of a linen model.

    It holds what is static of the model, none of its arrays, so that it hashes and equals that of
    an equal model. The collections are `params`, `batch_stats`, `rngs` (the random streams) and
    one for each other type of variable; an index of a list is a name such as "0".

    Attributes:
        graphdef: the structure of the model.
        treedef: of its variables.
        names: (collection, *path) of each array.
        forms: shape and dtype of each array.
        tuples: NamedTuples of variables, such as the state of an estimator, each by its name, its
            structure and the paths inside it. They are NamedTuples in the collection too.
        kind: the class of the model.
        keywords: keyword arguments of every call, as pairs.
    """

    graphdef: Any
    treedef: Any
    names: tuple[Path, ...]
    forms: tuple[jax.ShapeDtypeStruct, ...]
    tuples: tuple[tuple[Path, Any, tuple[Path, ...]], ...]
    kind: type
    keywords: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, model: Any) -> tuple["NnxApply", dict[str, PyTree]]:
        """Returns the call and the variables of a model."""
        graphdef, state = nnx.split(model)
        flat = nnx.to_flat_state(state)
        leaves, treedef = jax.tree.flatten(flat)
        names = tuple(name for path, variable in flat for name in _names(path, variable))
        forms = tuple(map(_form, leaves))
        apply = cls(graphdef, treedef, names, forms, tuple(_tuples(model, names)), type(model))
        return apply, apply._nested(dict(zip(names, leaves, strict=True)))

    def in_batch_mode(self) -> "NnxApply":
        """Returns the call with norms that normalize by their batch, all else in its own mode.

        A model whose call takes `train` is told to train.
        """
        model = self._merged(self.forms)
        model.set_attributes(use_running_average=False, raise_if_not_found=False)
        keywords = (("train", True),) if takes_train(self.kind) else ()
        return dataclasses.replace(self, graphdef=nnx.split(model)[0], keywords=keywords)

    def model(self, variables: Mapping[str, PyTree]) -> Any:
        """Returns a model of its own with the given variables.

        Args:
            variables: all collections of the model.

        Raises:
            ValueError: variables of the model are missing.
        """
        flat = flatten_dict(dict(variables))
        for name, _, inside in self.tuples:
            if name in flat:
                leaves = jax.tree.leaves(flat[name])
                flat |= {(*name, *path): leaf for path, leaf in zip(inside, leaves, strict=True)}
        missing = ["/".join(name) for name in self.names if name not in flat]
        if missing:
            raise ValueError(
                f"the variables lack {len(missing)} of the model's: {', '.join(missing[:5])}; pass "
                "those of the same model, every collection among them"
            )
        return self._merged([flat[name] for name in self.names])

    def _merged(self, leaves: Iterable[Any]) -> Any:
        return nnx.merge(self.graphdef, nnx.from_flat_state(self.treedef.unflatten(leaves)))

    def __call__(
        self,
        variables: Mapping[str, PyTree],
        *args: Any,
        mutable: Collection[str] | bool = False,
        rngs: Mapping[str, Array] | None = None,
        train: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Returns the output of the model, with mutable collections also those after the call.

        Args:
            variables: the collections of the model, without `rngs` if those are given.
            *args: for the model.
            mutable: collections to return. Among them `batch_moments` lets norms collect the
                moments of their batch, and not update their statistics.
            rngs: a key from which every random stream starts anew; its name says nothing.
            train: the mode, set by `train()` or `eval()` and, where the model's call takes `train`,
                handed on to it; None leaves the modes as they are.
            **kwargs: for the model.
        """
        if rngs:
            [key, *_] = rngs.values()
            variables = {**variables, "rngs": self._streams(key)}
        model, kwargs = self.model(variables), {**dict(self.keywords), **kwargs}
        if train is not None:
            model.train() if train else model.eval()
            kwargs |= {"train": train} if takes_train(self.kind) else {}
        asked = () if isinstance(mutable, bool) else tuple(mutable)
        if BATCH_MOMENTS in asked:
            _collect(model, flatten_dict(dict(variables.get(BATCH_MOMENTS, {}))))
        if is_intercepting():
            make_visible(model)
        output = model(*args, **kwargs)
        if mutable is False:
            return output
        after = nnx.to_flat_state(nnx.state(model))
        found = {}
        for path, variable in after:
            if isinstance(variable, Sown):
                below = tuple(map(name_of, path))
                found |= {(below[-1], *below[:-1], n): v for n, v in variable.get_value().items()}
            else:
                leaves = jax.tree.leaves(variable)
                found |= dict(zip(_names(path, variable), leaves, strict=True))
        chosen = {p: v for p, v in found.items() if mutable is True or p[0] in asked}
        return output, self._nested(chosen)

    def _nested(self, flat: dict[Path, Any]) -> dict[str, PyTree]:
        for name, structure, inside in self.tuples:
            if all((*name, *path) in flat for path in inside):
                leaves = [flat.pop((*name, *path)) for path in inside]
                flat[name] = jax.tree.unflatten(structure, leaves)
        return unflatten_dict(flat)

    def _streams(self, key: Array) -> PyTree:
        """Returns random streams that start at `key`, each at another key made of it."""
        streams = {}
        for place, (name, form) in enumerate(zip(self.names, self.forms, strict=True)):
            if name[0] != "rngs":
                continue
            own = jax.random.fold_in(key, place)
            is_key = jnp.issubdtype(form.dtype, jax.dtypes.prng_key)
            zero = jnp.zeros(form.shape, None if is_key else form.dtype)
            streams[name[1:]] = jax.random.split(own, form.shape) if is_key else zero
            if is_key and not form.shape:
                streams[name[1:]] = own
        return unflatten_dict(streams)


def takes_train(kind: type) -> bool:
    """Returns whether the call of a class of modules takes the argument `train`."""
    return "train" in inspect.signature(kind.__call__).parameters


def _collect(model: Any, earlier: Mapping[Path, Any]) -> None:
    """Lets each norm of ours with running statistics keep the moments of its batch."""
    for at, module in modules_of(model):
        if hasattr(module, "update_stats"):
            module.batch_moments = Sown({p[-1]: v for p, v in earlier.items() if p[:-1] == at})


def _names(path: tuple[Any, ...], variable: Any) -> list[Path]:
    """Returns (collection, *path) of each array of a variable; usually it holds one."""
    kinds = (name for kind, name in _COLLECTIONS.items() if isinstance(variable, kind))
    collection = next(kinds, type(variable).__name__)
    start = (collection, *map(name_of, path))
    if len(jax.tree.leaves(variable)) == 1:
        return [start]
    below, _ = jax.tree_util.tree_flatten_with_path(variable)
    return [(*start, jax.tree_util.keystr(inner)) for inner, _ in below]


def _tuples(model: Any, names: Collection[Path]) -> Iterator[tuple[Path, Any, tuple[Path, ...]]]:
    """Yields name, structure and inner paths of each NamedTuple of variables that a module has."""
    at = {name[1:]: name[0] for name in names}
    for path, module in modules_of(model):
        for attribute, value in vars(module).items():
            if not hasattr(value, "_fields"):
                continue
            leaves, structure = jax.tree_util.tree_flatten_with_path(value, is_leaf=_is_variable)
            inside = tuple(
                tuple(jax.tree_util.keystr((key,), simple=True) for key in keys)
                for keys, _ in leaves
            )
            start = (*path, attribute)
            if inside and all((*start, *below) in at for below in inside):
                yield (at[(*start, *inside[0])], *start), structure, inside


def _text(key: Any) -> str:
    return jax.tree_util.keystr((key,), simple=True)


def _form(leaf: Any) -> jax.ShapeDtypeStruct:
    array = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)
