"""The representation methods, one for each form of the score table: signatures of both sides, scored by the form."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float
from torch import Tensor

from whence.errors import InputError
from whence.methods.base import Method, Subject, TraceSet
from whence.model.before import has_before

if TYPE_CHECKING:
    from whence.index.forms import Block, Centres, LayerRoles, ScoreForm
    from whence.signatures.types import Extracted


class RepresentationMethod(Method):
    """scores = form(signatures of the queries, signatures of the training rows), a form of whence.trace.scoring.

    h_layer, g_layer: where h and g are read; left out, both at the subject's layer, but g at the last layer for a form
        that wants it deep.
    """

    form_name: ClassVar[str]

    def __init__(
        self, subject: Subject, *, h_layer: int | None = None, g_layer: int | None = None, weight: float | None = None
    ) -> None:
        from whence.index.forms import LayerRoles
        from whence.trace.scoring import score_form

        super().__init__(subject)
        self.form: ScoreForm = score_form(self.form_name, weight=weight)
        deepest = subject.loaded.n_layers if self.form.deep_g else subject.rep_layer
        self.roles: LayerRoles = LayerRoles(
            subject.rep_layer if h_layer is None else h_layer, deepest if g_layer is None else g_layer
        )

    def fit(self, train: TraceSet) -> None:
        """Extracts and keeps the training rows' signatures.

        Raises ModelError, NonFiniteError naming rows, and InputError for a form that reads what fine-tuning changed,
        without a base and without an adapter that could be turned off.
        """
        if self.form.contrasts and not has_before(self.subject.loaded, self.subject.base):
            raise InputError(
                f"{self.name} compares with the model before fine-tuning, and there is none.",
                "Expected a model with an adapter, or a base model.",
                "Give the base with --base, or use rept-centred.",
            )
        found = self._extracted(train)
        self._rise = found.rise
        self._centres: Centres = {
            (layer, name): raw.double().mean(0)
            for layer, signatures in found.layers.items()
            for name, raw in signatures.named().items()
        }
        self._train: Block = self._block(found)

    def score(self, queries: TraceSet) -> Float[Tensor, "n_query n_train"]:
        """The form's scores; its docstring has formula and range. Raises NonFiniteError."""
        from whence.index.forms import form_scores

        return form_scores(self.form, self._block(self._extracted(queries)), self._train, self.roles, self._rise)

    def bytes_per_row(self) -> float:
        """The vectors that the form reads, with their norms."""
        kept = [self._train[layer][vector] for layer, vector in dict.fromkeys(self.form.reads(self.roles))]
        return float(sum(vectors.unit[0].nbytes + vectors.norm.element_size() for vectors in kept))

    def _block(self, found: Extracted) -> Block:
        from whence.index.forms import to_block

        return to_block(found.layers, self._centres)

    def _extracted(self, rows: TraceSet) -> Extracted:
        from whence.signatures.extract import Extractor
        from whence.signatures.sketch import SKETCH_DIM
        from whence.signatures.types import CONTRASTS, VECTORS

        layers = sorted({layer for layer, _ in self.form.reads(self.roles)})
        loaded, shared = self.subject.loaded, self.subject.shared

        def work() -> Extracted:
            extractor = Extractor(
                loaded,
                layers,
                max_tokens=self.subject.max_tokens,
                contrast=self.form.contrasts,
                base=self.subject.base if self.form.contrasts else None,
            )
            return extractor.extract(rows.turns, labels=rows.name)

        if shared is None:
            return work()
        names = [name for name in VECTORS if self.form.contrasts or name not in CONTRASTS]
        n_values = sum(SKETCH_DIM if name == "eh" else loaded.hidden_size for name in names)
        n_bytes = len(rows) * len(layers) * n_values * 4
        return shared.get(("signatures", self.form.contrasts, tuple(layers)), rows, n_bytes, work) or work()


def representation_method(name: str) -> type[RepresentationMethod]:
    """The method of a form: its name, its version and its formula are the form's."""
    from whence.trace.scoring import SCORES

    form = SCORES[name]
    members = {"name": name, "version": form.version, "form_name": name, "__doc__": form.function.__doc__}
    return type(name.replace("-", "_"), (RepresentationMethod,), members)
