"""A whole network under one configuration: what is left of it, in which precisions and forms.

A search asks for networks by the thousand, so everything is told in one pass along the graph, and
what runs for a part follows from a short key that it shares with parts of other configurations.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hwprune.backend import Layouts
from hwprune.graph.channels import Widths
from hwprune.latency.boundaries import TO_LAST
from hwprune.latency.layouts import CHANNELS_LAST, GLOBAL_POOLS, POOLS, Form, Structure
from hwprune.latency.structure import Link, Step, listed

_Widths = tuple[int | None, ...]  # of the groups that a part touches, None: the full one


class StepKey(NamedTuple):
    """All that tells on the kernels of one step."""

    node: str
    precision: str
    form: Form  # what it computes in
    vanishes: bool  # its activation, into quantisations behind
    carries: bool  # its activation is fp32 behind integers and leaves channels last
    fuses: bool  # the Add behind it is computed on the way
    widths: _Widths


class LinkKey(NamedTuple):
    """All that tells on the boundaries on one tensor."""

    tensor: str
    form: Form
    wanted: tuple[Form, ...]
    widths: _Widths


class Place:
    """A step, with all that no configuration changes about it."""

    def __init__(self, step: Step, structure: Structure) -> None:
        self.step = step
        self.groups = structure.touched(step)
        self.link = structure.link_of.get(step.output)
        self.computed = [t for t in step.inputs if t in structure.link_of]
        self.above = [(t, structure.extent(t)) for t in self.computed]
        self.below = structure.extent(step.output)
        self.conv = structure.fused_into.get(step.node)  # what may compute this Add on the way
        self.relu = (step.activation[0] if step.activation else step.op) == "Relu"
        self.able = "int8" in step.precisions and structure.ends_on_integers(step)
        self.moved = step.op in structure.capabilities.moved
        self.image = structure.is_image(step)
        self.either = self.image and step.op in structure.capabilities.layouts.either
        self.carries = self.image and step.op in structure.capabilities.layouts.carried
        behind = step.activation[0] if step.activation else ""
        self.passes_last = behind in structure.capabilities.layouts.carried
        self.turns_last = step.op == "Transpose" and ("perm", listed(TO_LAST)) in step.attributes
        self._structure = structure
        self._layouts: Layouts = structure.capabilities.layouts
        self._blocked = self.image and self._layouts.block > 1 and step.op in self._layouts.blocked
        self._fits: dict[_Widths, tuple[bool, bool]] = {}

    def fits_blocks(self, key: _Widths, widths: Widths) -> tuple[bool, bool]:
        """Whether its widths let it compute in blocks, and read few channels as they are."""
        if not self._blocked:
            return False, False
        if key not in self._fits:
            few = self.step.op == "Conv" and self._structure.reads_few(self.step, widths)
            self._fits[key] = self._structure.fits_blocks(self.step, widths), few
        return self._fits[key]

    def follows(self, forms: Mapping[str, Form]) -> bool:
        """Whether it computes in blocks where its inputs are in `forms`, if its widths let it."""
        op, inputs = self.step.op, self.step.inputs
        if op == "Conv" or (op in POOLS and op not in GLOBAL_POOLS):
            return True
        some = inputs[:1] if op == "BatchNormalization" or op in POOLS else inputs
        return all(forms.get(t) is Form.BLOCKED for t in some)


class Whole:
    """One configuration of the network that `places` are the steps of, by node in graph order."""

    def __init__(
        self,
        structure: Structure,
        places: Mapping[str, Place],
        widths: Widths,
        dropped: frozenset[str],
        kernels: Mapping[str, str],
    ) -> None:
        self._structure, self._places, self._widths = structure, places, widths
        self._passed_on: dict[str, str] = {}  # Add that is gone -> the tensor that it passes on
        self._gone: set[str] = set()
        if dropped:
            self._drop(dropped)
        self._readers: dict[str, tuple[Sequence[Step], bool]] = {}  # by tensor
        self.kernels = self._settled(kernels)
        self._forms: dict[str, Form] = {}  # by tensor that is computed
        self._computes: dict[str, Form] = {}  # by node
        self._reads: dict[str, Form] = {}  # by node
        self._keys: dict[str, StepKey] = {}
        for place in places.values():
            self._lay(place)

    def step_keys(self) -> Iterable[StepKey]:
        """What steps run by, of those that run anything."""
        return self._keys.values()

    def link_key(self, link: Link, groups: Sequence[str]) -> LinkKey | None:
        """What its boundaries follow from; None where there cannot be any."""
        if link.producer in self._gone:
            return None
        readers, leaves = self.readers(link)
        form = self._forms.get(link.tensor, Form.PLAIN)
        wanted = [self._reads[s.node] for s in readers]
        if leaves:
            wanted.append(Form.PLAIN)
        if all(w is form for w in wanted):
            return None
        return LinkKey(link.tensor, form, tuple(wanted), tuple(map(self._widths.get, groups)))

    def readers(self, link: Link) -> tuple[Sequence[Step], bool]:
        """The steps that read the tensor of `link`, and whether it leaves the network."""
        if not self._gone:
            return self._structure.readers[link.tensor], link.leaves
        if link.tensor not in self._readers:
            self._readers[link.tensor] = self._found(link)
        return self._readers[link.tensor]

    def _found(self, link: Link) -> tuple[Sequence[Step], bool]:
        found, leaves = list[Step](), link.leaves
        for step in self._structure.readers[link.tensor]:
            if step.node not in self._gone:
                found.append(step)
            elif self._passed_on.get(step.node) == link.tensor:
                behind = self._structure.link_of.get(step.output)
                more, out = self.readers(behind) if behind else ((), False)
                found, leaves = [*found, *more], leaves or out
        return found, leaves

    def _drop(self, dropped: frozenset[str]) -> None:
        within = self._structure.within
        self._gone = {p.step.node for p in self._places.values() if within[p.step.node] & dropped}
        passed = {node: self._structure.passed_on(node, dropped) for node in self._gone}
        self._passed_on = {node: tensor for node, tensor in passed.items() if tensor}

    def _settled(self, given: Mapping[str, str]) -> dict[str, str]:
        """Kernels as the runtime chooses them: what reads integers only, and is read as integers
        only, is computed on integers, whoever asked for floats (with weights it quantises itself);
        for what quantisations are moved through, one of the two is enough.
        """
        kernels = dict(given)
        floats = [
            p
            for p in self._places.values()
            if p.able
            and p.step.node not in self._gone
            and kernels.get(p.step.node, "fp32") == "fp32"
        ]
        while found := [p for p in floats if self._on_integers(p, kernels)]:
            kernels |= {p.step.node: "int8" for p in found}
            floats = [p for p in floats if p not in found]
        return kernels

    def _on_integers(self, place: Place, kernels: Mapping[str, str]) -> bool:
        ends = self._read_as_integers(place, kernels), self._reads_integers(place, kernels)
        return any(ends) if place.moved else all(ends)

    def _reads_integers(self, place: Place, kernels: Mapping[str, str]) -> bool:
        made = (self._made_of_integers(t, kernels) for t in place.computed)
        return bool(place.computed) and all(made)

    def _read_as_integers(self, place: Place, kernels: Mapping[str, str]) -> bool:
        readers, leaves = self.readers(place.link) if place.link else ((), True)
        if leaves or not readers:
            return False
        return all(kernels.get(r.node) == "int8" for r in readers)

    def _made_of_integers(self, tensor: str, kernels: Mapping[str, str]) -> bool:
        node = self._structure.producer.get(tensor)
        while node in self._passed_on:
            node = self._structure.producer.get(self._passed_on[node])
        if node is None or kernels.get(node) != "int8":
            return False
        return self._structure.ends_on_integers(self._structure.by_node[node])

    def _lay(self, place: Place) -> None:
        """Tells the forms of a step and of what it writes; those of its inputs are known."""
        step = place.step
        if step.node in self._gone:
            if kept := self._passed_on.get(step.node):
                self._forms[step.output] = self._forms.get(kept, Form.PLAIN)
            return
        precision = self.kernels.get(step.node, "fp32")
        widths = tuple(map(self._widths.get, place.groups))
        form, few = self._laid(place, precision, widths)
        self._computes[step.node] = form
        vanishes = (
            place.relu and precision != "int8" and self._read_as_integers(place, self.kernels)
        )
        if place.conv and self._fuses(place.conv, step, precision):
            self._forms[step.output] = self._reads[step.node] = self._computes[place.conv]
            own = self._keys[place.conv]
            self._keys[place.conv] = own._replace(fuses=True, vanishes=vanishes)
            return
        if place.turns_last and (turned := self._turned(place, precision)) is not None:
            self._reads[step.node], self._forms[step.output] = turned, form
            return
        self._reads[step.node] = Form.PLAIN if few else form
        self._forms[step.output] = self._written(place, precision, form, vanishes)
        if not (vanishes and step.op == "Relu"):
            carries = self._forms[step.output] is Form.FLOATS_LAST and form is Form.LAST
            key = StepKey(step.node, precision, form, vanishes, carries, False, widths)
            self._keys[step.node] = key

    def _laid(self, place: Place, precision: str, key: _Widths) -> tuple[Form, bool]:
        """What a step computes in, and whether it reads few channels as they are, not in blocks."""
        if precision == "int8":
            return self._of_integers(place) if place.image else Form.ROWS, False
        fits, few = place.fits_blocks(key, self._widths)
        if fits and place.follows(self._forms):
            return Form.BLOCKED, few
        carries = place.carries and self._takes_last(place)
        return Form.FLOATS_LAST if carries else Form.PLAIN, False

    def _of_integers(self, place: Place) -> Form:
        if place.step.op in self._structure.capabilities.layouts.channels_last:
            return Form.LAST
        return Form.LAST if place.either and self._takes_last(place) else Form.ROWS

    def _takes_last(self, place: Place) -> bool:
        """As onnxruntime's optimiser pushes transposes down: where that leaves less to transpose
        above a step than there was, by more than what it writes if that meets no other further on.
        """
        saved = sum(self._saved(tensor, extent) for tensor, extent in place.above)
        return saved > place.below or (saved > 0 and self._leads_on(place))

    def _turned(self, place: Place, precision: str) -> Form | None:
        """What a transpose to channels last reads where they are last already: it is gone."""
        if self._forms.get(place.step.inputs[0]) not in CHANNELS_LAST:
            return None
        return Form.LAST if precision == "int8" else Form.FLOATS_LAST

    def _saved(self, tensor: str, extent: int) -> int:
        """Axes that need not be transposed above a step on channels last; below 0: that need to."""
        if self._forms.get(tensor) not in CHANNELS_LAST:
            return -extent
        return 0 if self._structure.link_of[tensor].leaves else extent

    def _leads_on(self, place: Place) -> bool:
        """Whether somebody behind wants channels last, maybe behind others who take either."""
        last = self._structure.capabilities.layouts.channels_last
        readers = self.readers(place.link)[0] if place.link else ()
        for behind in (self._places[r.node] for r in readers):
            on_integers = self.kernels.get(behind.step.node) == "int8"
            if on_integers and behind.step.op in last:
                return True
            if (behind.either if on_integers else behind.carries) and self._leads_on(behind):
                return True
        return False

    def _fuses(self, conv: str, add: Step, precision: str) -> bool:
        """Whether `conv`, a convolution or MatMul, computes `add` on the way."""
        if conv in self._gone:
            return False
        step = self._structure.by_node[conv]
        if not self._structure.may_fuse(step, self.kernels.get(conv, "fp32"), precision):
            return False
        if step.op == "MatMul" or self._computes[conv] is not Form.BLOCKED:
            return True
        others = (t for t in add.inputs if t != step.output)
        return all(self._forms.get(t) is Form.BLOCKED for t in others)

    def _written(self, place: Place, precision: str, form: Form, vanishes: bool) -> Form:
        """The form of what a step writes."""
        step = place.step
        if step.op == "Relu" and vanishes:
            return self._forms.get(step.inputs[0], Form.PLAIN)
        if precision != "int8" or self._structure.ends_on_integers(step):
            return form
        carries = form is Form.LAST and place.passes_last and self._leads_on(place)
        return Form.FLOATS_LAST if carries else Form.PLAIN
