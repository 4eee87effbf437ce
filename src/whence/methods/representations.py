"""The representation methods, one for each form of the score table: signatures of both sides, scored by the form."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float
from torch import Tensor

from whence.errors import InputError
from whence.methods.base import Method, Subject, TurnSet
from whence.model import has_before

if TYPE_CHECKING:
    from whence.scoring import Block, Centres, FormLayers, ScoreForm
    from whence.signatures import Extracted


class RepresentationMethod(Method):
    """scores = form(signatures of the queries, signatures of the training rows), a form of whence.scoring.

    layers: the layer of each of the form's reads, in their order; left out, those of its rules of depth, with the
        subject's layer for the rule's.
    """

    form_name: ClassVar[str]

    def __init__(self, subject: Subject, *, layers: FormLayers | None = None, weight: float | None = None) -> None:
        from whence.scoring import Depths, score_form

        super().__init__(subject)
        self.form: ScoreForm = score_form(self.form_name, weight=weight)
        self.layers: FormLayers = layers or self.form.layers(Depths(subject.rep_layer, subject.loaded.n_layers))

    def fit(self, train: TurnSet) -> None:
        """Extracts and keeps the training rows' signatures.

        Raises ModelError, NonFiniteError naming rows, and InputError for a form that reads what fine-tuning changed,
        without a base and without an adapter that could be turned off.
        """
        if self.form.needs_base and not has_before(self.subject.loaded, self.subject.base):
            raise InputError(
                f"{self.name} compares with the model before fine-tuning, and there is none.",
                "Expected a model with an adapter, or a base model.",
                "Give the base with --base, or use rept-centred.",
            )
        found = self._extracted(train)
        self._gain = found.log_likelihood_gain
        self._centres: Centres = {
            (layer, name): raw.double().mean(0)
            for layer, signatures in found.layers.items()
            for name, raw in signatures.named().items()
        }
        self._train: Block = self._block(found)

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """The form's scores; its docstring has formula and range. Raises NonFiniteError."""
        from whence.scoring import form_scores

        return form_scores(self.form, self._block(self._extracted(queries)), self._train, self.layers, self._gain)

    def bytes_per_row(self) -> float:
        """The vectors that the form reads, with their norms."""
        kept = [self._train[layer][vector] for layer, vector in dict.fromkeys(self.form.reads(self.layers))]
        return float(sum(vectors.unit[0].nbytes + vectors.norm.element_size() for vectors in kept))

    def _block(self, found: Extracted) -> Block:
        from whence.scoring import to_block

        return to_block(found.layers, self._centres)

    def _extracted(self, rows: TurnSet) -> Extracted:
        from whence.signatures import SKETCH_DIM, Extractor

        vectors = tuple(dict.fromkeys(self.form.vectors(self.layers)))
        loaded, shared, needs_base = self.subject.loaded, self.subject.shared, self.form.needs_base

        def work() -> Extracted:
            extractor = Extractor(
                loaded,
                vectors=vectors,
                max_tokens=self.subject.max_tokens,
                contrast=needs_base,
                base=self.subject.base if needs_base else None,
            )
            return extractor.extract(rows.turns, labels=rows.name)

        if shared is None:
            return work()
        n_values = sum(SKETCH_DIM if name == "eh" else loaded.hidden_size for _, name in vectors)
        return shared.get(("signatures", needs_base, vectors), rows, len(rows) * n_values * 4, work) or work()


def representation_method(name: str) -> type[RepresentationMethod]:
    """The method of a form: its name, its version and its formula are the form's."""
    from whence.scoring import SCORES

    form = SCORES[name]
    members = {"name": name, "version": form.version, "form_name": name, "__doc__": form.function.__doc__}
    return type(name.replace("-", "_"), (RepresentationMethod,), members)
