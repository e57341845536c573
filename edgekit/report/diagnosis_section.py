"""Why an int8 file loses: the causes in order of blame with proof and cure, the layers, classes and worst samples."""

from __future__ import annotations

from edgekit.diagnose.schema import ClassAgreement, Diagnosis, Finding, Layer, WorstSample
from edgekit.report import figures
from edgekit.report.charts.layers import key, layers
from edgekit.report.markup import Child, Markup, join, tag
from edgekit.report.schema import TargetReport
from edgekit.report.table import badge, missing, soft, table

_CAUSES_SHOWN = 6
_LAYERS_SHOWN = 12
_CLASSES_SHOWN = 12
_SAMPLES_SHOWN = 6
_HARMS = {"fails": ("does not run", "failed"), "accuracy": ("accuracy", "missed"), "latency": ("latency", "kept")}


def diagnosis_section(target: TargetReport) -> Markup | None:
    """Return the diagnoses of one target's variants, or nothing where there was nothing to explain."""
    found = [body(variant.diagnosis, variant.name, variant.cause) for variant in target.variants if variant.diagnosis]
    return join(*found) if found else None


def body(found: Diagnosis, name: str, cause: str = "") -> Markup:
    """Return one diagnosis; ``name``: of the variant or file, ``cause``: why the build dropped it."""
    return join(
        tag(
            "div",
            tag("h3", f"Why {name} answers otherwise than its float model"),
            tag("p", _lead(found, cause), class_="soft small"),
            _causes(found) if found.findings else tag("p", _NOTHING),
            class_="panel diagnosis",
        ),
        tag(
            "div",
            tag(
                "div",
                _panel("Which layers do it", join(layers(name, found.layers), key())),
                _outputs(found),
                class_="column",
            ),
            tag("div", _classes(found), _samples(found), class_="column"),
            class_="pair",
        ),
        _figures(found, name),
    )


def summary(found: Diagnosis) -> str:
    """Return the first cause with its cure as one sentence, for a terminal or a pull request."""
    if not found.findings:
        return "rounding is not to blame; what is lost was lost before, or by close calls"
    first = found.findings[0]
    place = f" at {first.where[0]}" if first.where else ""
    blame = f"{figures.percent(first.blame)} at the outputs"
    return f"{cause_words(first.cause)}{place} ({blame}): {first.proof}. {first.cure}"


def cause_words(cause: str) -> str:
    """Return a cause's name as words, e.g. ``uneven channels``."""
    return cause.replace("-", " ")


_NOTHING = (
    "Nothing to blame: rounding costs next to nothing here. What is lost was lost before, by pruning for example, "
    "or by answers that are close calls."
)


def _lead(found: Diagnosis, cause: str) -> str:
    start = f"It {cause}. " if cause.startswith(("loses", "could not be scored")) else ""
    end = "" if found.complete else " Time was up before every layer was tried: edgekit diagnose takes longer."
    return (
        f"{start}Held against the float file it was made from, layer by layer, on {found.samples} test samples; "
        f"{found.probes} single changes were tried at the outputs. Nothing was decided on these samples.{end}"
    )


def _causes(found: Diagnosis) -> Markup:
    shown = found.findings[:_CAUSES_SHOWN]
    rows = [_finding(number, finding) for number, finding in enumerate(shown, start=1)]
    more = len(found.findings) - len(shown)
    return join(
        table("Causes, in order of blame", ["Cause", "Blame", "Proof", "Cure"], rows, numbers=(1,)),
        tag("p", f"and {more} smaller ones, in report.json", class_="soft small") if more else None,
    )


def _finding(number: int, finding: Finding) -> list[Child]:
    word, kind = _HARMS[finding.harm]
    places = join(*(join(tag("code", where), " ") for where in finding.where[:3]))
    more = f"and {len(finding.where) - 3} more" if len(finding.where) > 3 else None
    return [
        join(f"{number}. {cause_words(finding.cause)} ", badge(word, kind), tag("span", places, more, class_="soft")),
        figures.percent(finding.blame),
        finding.proof[:1].upper() + finding.proof[1:],
        finding.cure,
    ]


def _outputs(found: Diagnosis) -> Markup | None:
    if not found.outputs:
        return _panel("At the outputs", tag("p", "The file does not run, so it has none.", class_="empty"))
    rows = [[item.output, _error(item.relative_error)] for item in found.outputs]
    return tag("div", table("At the outputs", ["Output", "Relative error"], rows, numbers=(1,)), class_="panel")


def _classes(found: Diagnosis) -> Markup | None:
    if not found.classes:
        return None
    head = ["Class", "Float decides", "Agrees"]
    head += [f"{found.metric}, float", "int8"] if found.metric else []
    ranked = sorted(found.classes, key=lambda each: each.loss, reverse=True)
    rows = [_class(each, labelled=bool(found.metric)) for each in ranked[:_CLASSES_SHOWN]]
    more = len(ranked) - _CLASSES_SHOWN
    return tag(
        "div",
        table("Class by class, the worst first", head, rows, numbers=range(1, len(head))),
        tag("p", f"and {more} classes that lost less", class_="soft small") if more > 0 else None,
        class_="panel",
    )


def _class(each: ClassAgreement, *, labelled: bool) -> list[Child]:
    row: list[Child] = [
        each.name,
        str(each.count),
        missing("nothing to agree with") if each.agreement is None else figures.percent(each.agreement),
    ]
    if labelled:
        values = (each.float_metric, each.artifact_metric)
        row += [missing("no label") if value is None else f"{value:.3f}" for value in values]
    return row


def _samples(found: Diagnosis) -> Markup | None:
    if not found.worst_samples:
        return None
    labelled = any(item.lost is not None for item in found.worst_samples)
    head = ["Sample", "Relative error", *(["Right in float, lost here"] if labelled else [])]
    rows = [_sample(item, labelled=labelled) for item in found.worst_samples[:_SAMPLES_SHOWN]]
    return tag("div", table("Worst samples", head, rows, numbers=range(1, len(head))), class_="panel")


def _sample(item: WorstSample, *, labelled: bool) -> list[Child]:
    return [item.sample, _error(item.relative_error), *([str(item.lost)] if labelled else [])]


def _figures(found: Diagnosis, name: str) -> Markup | None:
    """Return the figures of the worst layers, folded."""
    ranked = sorted(found.layers, key=lambda layer: layer.harm, reverse=True)[:_LAYERS_SHOWN]
    if not ranked:
        return None
    head = ["Layer", "At the outputs", "SQNR", "Cosine", "Range used", "Clipped", "Values"]
    return tag(
        "details",
        tag("summary", f"Figures of the {len(ranked)} worst of {len(found.layers)} layers of {name}"),
        table(f"Worst layers of {name}", head, [_layer(layer) for layer in ranked], numbers=range(1, len(head))),
        class_="panel",
    )


def _layer(layer: Layer) -> list[Child]:
    clipped = (layer.clipped_low or 0.0) + (layer.clipped_high or 0.0)
    held = None if layer.range_low is None else soft(f"holds {layer.range_low:.3g} … {layer.range_high:.3g}")
    return [
        join(layer.tensor.split(";")[-1], soft(layer.op or "input")),
        missing("not tried") if layer.output_error is None else figures.percent(layer.output_error),
        missing("equal") if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}{figures.SPACE}dB",
        missing("unknown") if layer.cosine is None else f"{layer.cosine:.4f}",
        missing("float") if layer.range_used is None else figures.percent(layer.range_used),
        figures.percent(clipped) if layer.scale is not None else missing("float"),
        join(f"{layer.low:.3g} … {layer.high:.3g}", held),
    ]


def _error(value: float | None) -> Markup | str:
    return missing("not a finite number") if value is None else figures.percent(value)


def _panel(title: str, content: Markup) -> Markup:
    return tag("div", tag("h3", title), content, class_="panel")
