"""A plan for people: tables of memory, host, time and assumptions, each at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pairwise_rm.plan.chart_values import as_overrides
from pairwise_rm.plan.estimate import Estimate, in_gib
from pairwise_rm.plan.layout_search import Found
from pairwise_rm.plan.memory import PARTS
from pairwise_rm.plan.throughput import GIB, used
from pairwise_rm.progress import duration

WIDTH = 100
_SHORT = {
    "old log-probabilities": "old log-p.",
    "reference log-probabilities": "reference",
}


def report(plan: Estimate) -> RenderableType:
    """All of a plan, the assumptions last."""
    parts: list[RenderableType] = [_title(plan), "", memory_table(plan), *_memory_notes(plan), "", _needs(plan), ""]
    parts += [_times(plan), "", *_whole(plan)] if plan.time else ["Seconds are not estimated on a CPU."]
    parts += ["", _lengths(plan), *_histogram(plan)]
    if plan.gpu:
        parts += ["", _assumptions(plan)]
    return Group(*parts)


def search_table(found: Sequence[Found], price: float | None) -> Table:
    """The cheapest layout for each number of GPUs; the first one is the cheapest of all."""
    table = Table(title="Layouts that fit, cheapest first", title_justify="left", box=None, pad_edge=False, width=WIDTH)
    for name in ("GPUs", "a step", "GPU-hours", *(("cost",) if price is not None else ())):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("recipe keys that differ", ratio=1)
    for one in found:
        plan, time = one.estimate, one.estimate.time
        assert time is not None
        hours = "" if time.gpu_hours is None else f"{time.gpu_hours:,.0f}"
        cost = [] if price is None else ["" if plan.cost is None else f"{plan.cost:,.0f}"]
        keys = "\n".join(as_overrides(one.changes)) or "none: as it is"
        table.add_row(str(plan.layout.gpus), f"{time.step:,.0f} s", hours, *cost, keys)
    return table


def _title(plan: Estimate) -> Text:
    layout, shape = plan.layout, plan.shape
    where = "a CPU"
    if plan.gpu:
        nodes = f"{layout.nodes} x " if layout.nodes > 1 else ""
        where = f"{nodes}{layout.gpus_per_node} x {plan.gpu.title}"
    how = f"LoRA of rank {layout.lora.rank}" if layout.lora else "all weights"
    weights = f"{shape.weights / 1e9:.3g} B" if shape.weights >= 1e8 else f"{shape.weights / 1e6:.2g} M"
    what = f"{shape.name}, {weights} weights ({shape.source}), {how}, on {where}"
    return Text.assemble((plan.recipe.name, "bold"), f": {what}")


def memory_table(plan: Estimate) -> Table:
    """GiB by part and phase."""
    memory = plan.memory
    unit, size = ("GiB", GIB) if memory.worst.total >= GIB else ("MiB", 1 << 20)
    what = "a GPU" if plan.gpu else "the training process"
    table = Table(title=f"Memory of {what}, {unit}", title_justify="left", box=None, pad_edge=False, width=WIDTH)
    table.add_column("", no_wrap=True)
    for peak in memory.peaks:
        table.add_column(_SHORT.get(peak.phase, peak.phase), justify="right")
    for name in PARTS:
        if any(name in peak.parts for peak in memory.peaks):
            sizes = [peak.parts.get(name, 0) / size for peak in memory.peaks]
            table.add_row(name, *(f"{part:,.1f}" if part else "" for part in sizes))
    table.add_row("total", *(f"{peak.total / size:,.1f}" for peak in memory.peaks), style="bold")
    if memory.capacity is not None:
        spare = [memory.capacity - peak.total for peak in memory.peaks]
        cells = [Text(f"{left / size:,.1f}", "red" if left < 0 else "green") for left in spare]
        table.add_row(f"of {memory.capacity / size:,.1f} free", *cells)
    return table


def _memory_notes(plan: Estimate) -> Iterator[RenderableType]:
    memory, worst = plan.memory, plan.memory.worst
    at = f" ({worst.moment})" if worst.moment else ""
    if plan.gpu and plan.spare is not None:
        if plan.spare < 0:
            yield Text(f"Does not fit: {worst.phase}{at} is {in_gib(-plan.spare)} over.", "bold red")
        elif plan.tight:
            yield Text(f"Fits, and tightly: {worst.phase}{at} leaves {in_gib(plan.spare)}.", "yellow")
        else:
            yield Text(f"Fits: {worst.phase}{at} is the fullest phase and leaves {in_gib(plan.spare)}.", "green")
    else:
        yield Text(f"Fullest: {worst.phase}{at}, {in_gib(worst.total)}.")
    kv = memory.kv
    yield Text(
        f"KV cache of a vLLM replica ({plan.layout.replicas} of them): {kv.tokens:,} tokens; {kv.typical:,} sequences "
        f"of usual length at once, {kv.longest:,} of full length; vLLM runs at most {plan.layout.max_num_seqs}."
    )


def _needs(plan: Estimate) -> Table:
    host, volumes = plan.host, plan.storage
    table = Table(title="A node and its volumes", title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(max_width=WIDTH - 36)
    total = host.total + (0 if plan.gpu else plan.memory.worst.total)
    parts = ", ".join(f"{name} {in_gib(size)}" for name, size in host.parts.items())
    if not plan.gpu:
        parts = f"the training process {in_gib(plan.memory.worst.total)}, {parts}"
    table.add_row("host memory", in_gib(total), f"at {host.moment}: {parts}")
    table.add_row("/dev/shm", in_gib(host.shm), "of it" if plan.gpu else "of it: weights on their way to vLLM")
    table.add_row("Ray CPUs", f"{host.ray_cpus}", "all nodes together")
    table.add_row("a checkpoint", in_gib(volumes.checkpoint), "weights and both moments of what is trained")
    table.add_row(
        "volume of the runs",
        in_gib(volumes.runs),
        f"{volumes.kept} checkpoints, one of them being written; merged weights and those before them "
        f"{in_gib(volumes.merged)}; export {in_gib(volumes.export)}",
    )
    if volumes.cache:
        table.add_row("volume of the cache", in_gib(volumes.cache), "the model from the hub")
    return table


def _times(plan: Estimate) -> Table:
    time = plan.time
    assert time is not None
    table = Table(title=f"A step of {time.tokens:,} tokens", title_justify="left", box=None, pad_edge=False)
    table.add_column("phase", no_wrap=True)
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    table.add_column("limited by")
    for name, seconds in time.phases.items():
        table.add_row(name, f"{seconds:.1f}", f"{seconds / time.step:.0%}", time.limits[name])
    table.add_row(
        "step", f"{time.step:.1f}", "", f"{time.tokens / time.step / time.gpus:,.0f} tokens/s a GPU", style="bold"
    )
    return table


def _whole(plan: Estimate) -> Iterator[Text]:
    time = plan.time
    assert time is not None
    if time.training is None or time.gpu_hours is None:
        yield Text("Steps of the run: not known without the data (--data FILE, or train.steps).")
        return
    price = "" if plan.cost is None else f", at {plan.price:g} an hour {plan.cost:,.0f}"
    yield Text(f"{time.steps:,} steps: {duration(time.training)}, {time.gpu_hours:,.0f} GPU-hours{price}.", "bold")
    yield Text(
        f"In them: start {duration(time.start)}, validations {duration(time.validations)}, checkpoints "
        f"{duration(time.checkpoints)}; judging before and after {duration(time.evaluation)} on "
        f"{time.evaluation_gpus} GPUs."
    )


def _lengths(plan: Estimate) -> Text:
    lengths = plan.lengths
    rows = f"{lengths.rows:,} rows; " if lengths.rows else ""
    return Text(
        f"{rows}prompts of {lengths.prompt:,.0f} tokens on average, at most {lengths.longest:,} "
        f"({lengths.prompt_source}); responses of {lengths.response:,.0f} ({lengths.response_source})."
    )


def _histogram(plan: Estimate) -> Iterator[Text]:
    entries = plan.lengths.histogram()
    counts = [count for _, _, count in entries]
    for low, high, count in entries:
        bar = "█" * round(40 * count / max(counts))
        yield Text(f"  {low:>6,} to {high:>6,} tokens {bar:<40} {count / sum(counts):.0%}")


def _assumptions(plan: Estimate) -> Table:
    assert plan.gpu is not None
    table = Table(title="What this rests on", title_justify="left", box=None, pad_edge=False, width=WIDTH)
    table.add_column("figure", ratio=4)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("source, date", ratio=5)
    for _, figure in used(plan.gpu):
        table.add_row(figure.what, f"{figure.value:g}", figure.kind, f"{figure.source}, {figure.date}", style="dim")
    return table
