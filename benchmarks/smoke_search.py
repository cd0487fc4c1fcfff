"""GRPO on the smoke task in one PyTorch process: a search loop that needs no verl and takes a minute per run.

    python benchmarks/smoke_search.py --seeds 0 1 2          # measured on the dev combinations
    python benchmarks/smoke_search.py --final                # measured on the held-out ones; only to report

verl's defaults (group-normalised advantage, token-mean loss, clip 0.2, AdamW with weight decay 0.01, gradients
clipped at 1.0). The seed of a run seeds the model, the data and the training. Without `--final` both the
warm-start and GRPO leave the `dev` part of the training combinations out and accuracy is measured there, so that
nothing is tuned on `val`. Results to report come from `benchmarks/smoke.py`, which runs the whole pipeline.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from pairwise_rm.toy.sampling import Samples
    from pairwise_rm.toy.topic_pairs import TopicPair


class Setting(NamedTuple):
    """One point of the search, in the recipe's names; `kl` 0 trains without a reference."""

    batch_size: int
    mini_batch_size: int
    rollouts: int
    learning_rate: float
    steps: int
    temperature: float
    kl: float
    warmup_steps: int


class Point(NamedTuple):
    step: int
    accuracy: float
    valid: float


def log_probs(model: Any, samples: Samples, rows: slice) -> torch.Tensor:
    """Log-probability of every answer token, [rows, answer]."""
    import torch

    ids = torch.cat([samples.prompts[rows], samples.answers[rows]], 1)
    mask = torch.cat([samples.prompt_mask[rows], samples.answer_mask[rows]], 1)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    width = samples.answers.shape[1]
    logits = model(ids, attention_mask=mask, position_ids=positions, logits_to_keep=width + 1).logits[:, :-1]
    return torch.log_softmax(logits, -1).gather(-1, samples.answers[rows][..., None]).squeeze(-1)


def rewards(samples: Samples, judged: list[TopicPair], rollouts: int) -> torch.Tensor:
    """1 for the right verdict in the whole format, else 0; shape [prompts, rollouts]."""
    import torch

    from pairwise_rm.contract.verdict import extract_preference_from_response

    verdicts = [extract_preference_from_response(text).preference for text in samples.texts]
    right = [float(verdict == judged[row // rollouts].preferred) for row, verdict in enumerate(verdicts)]
    return torch.tensor(right).view(-1, rollouts)


def step(
    model: Any, reference: Any, optimizer: Any, tokenizer: Any, judged: list[TopicPair], setting: Setting
) -> float:
    """One GRPO step over the batch; returns the mean reward."""
    import torch

    from pairwise_rm.toy.answers import prompt_ids
    from pairwise_rm.toy.sampling import sample

    samples = sample(model, tokenizer, prompt_ids(tokenizer, judged), setting.temperature, setting.rollouts)
    paid = rewards(samples, judged, setting.rollouts)
    advantage = ((paid - paid.mean(1, keepdim=True)) / (paid.std(1, keepdim=True) + 1e-6)).flatten()[:, None]
    everything = slice(0, len(samples.texts))
    with torch.no_grad():
        old = log_probs(model, samples, everything)
        fixed = log_probs(reference, samples, everything) if reference is not None else None
    size = setting.mini_batch_size * setting.rollouts
    for start in range(0, len(samples.texts), size):
        rows = slice(start, start + size)
        new, mask = log_probs(model, samples, rows), samples.answer_mask[rows]
        ratio = (new - old[rows]).exp()
        losses = -torch.min(ratio * advantage[rows], ratio.clamp(0.8, 1.2) * advantage[rows])
        if fixed is not None:
            apart = fixed[rows] - new
            losses = losses + setting.kl * (apart.exp() - apart - 1).clamp(-10, 10)
        optimizer.zero_grad()
        ((losses * mask).sum() / mask.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return float(paid.mean())


def grpo(
    model: Any, tokenizer: Any, train: list[TopicPair], held: list[TopicPair], setting: Setting, seed: int, every: int
) -> list[Point]:
    """Trains `model` in place; measures greedily on both orders of `held` every few steps."""
    import torch

    from pairwise_rm.toy.warm_start import make_model, measure

    torch.manual_seed(seed)
    reference = None
    if setting.kl:
        reference = make_model(tokenizer, seed)
        reference.load_state_dict(model.state_dict())
        reference.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=setting.learning_rate, weight_decay=0.01)
    rows = [row for pair in train for row in (pair, pair.swapped())]
    rng = random.Random(seed)
    order: list[TopicPair] = []
    points = []
    for number in range(setting.steps + 1):
        paid = float("nan")
        if number:
            if len(order) < setting.batch_size:
                order = rng.sample(rows, len(rows))
            judged = [order.pop() for _ in range(setting.batch_size)]
            for group in optimizer.param_groups:
                group["lr"] = setting.learning_rate * min(1.0, number / max(1, setting.warmup_steps))
            paid = step(model, reference, optimizer, tokenizer, judged, setting)
        if number % every == 0 or number == setting.steps:
            seen = measure(model, tokenizer, held)
            points.append(Point(number, seen.accuracy, seen.valid))
            print(
                f"  step {number:3d} reward {paid:.3f} accuracy {seen.accuracy:.3f} valid {seen.valid:.3f} "
                f"stated {seen.stated:.3f} says A {seen.says_a:.3f}",
                flush=True,
            )
    return points


def run_in_process(seed: int, setting: Setting, final: bool, every: int, cache: str | None) -> list[Point]:
    from pathlib import Path

    from pairwise_rm.toy.smoke import TRAIN_DRAWS
    from pairwise_rm.toy.topic_pairs import pairs, topic_combinations
    from pairwise_rm.toy.warm_start import measure, warm_started_model

    started = time.perf_counter()
    dev = set() if final else set(topic_combinations("dev"))
    train = [pair for pair in pairs("train", seed, TRAIN_DRAWS) if tuple(sorted(pair.topics)) not in dev]
    held = pairs("val" if final else "dev", seed, 1)
    saved = Path(cache) / f"{'final' if final else 'dev'}-{seed}" if cache else None
    if saved is not None and saved.exists():
        from transformers import AutoTokenizer, Qwen2ForCausalLM

        tokenizer = AutoTokenizer.from_pretrained(saved)
        model = Qwen2ForCausalLM.from_pretrained(saved)
    else:
        combinations = [pair for pair in topic_combinations("train") if pair not in dev]
        model, tokenizer, _ = warm_started_model(train, combinations, seed)
        if saved is not None:
            model.save_pretrained(saved)
            tokenizer.save_pretrained(saved)
    warm = time.perf_counter() - started
    sampled = measure(model, tokenizer, held, 1.0)
    print(f"seed {seed}: warm-start {warm:.0f} s; at temperature 1 {sampled}", flush=True)
    points = grpo(model, tokenizer, train, held, setting, seed, every)
    print(f"seed {seed}: GRPO {time.perf_counter() - started - warm:.0f} s", flush=True)
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--final", action="store_true", help="measure on val; only to report, never to choose")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--every", type=int, default=5, help="steps between measurements")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", help="folder that keeps warm-started models between runs of a search")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--mini-batch-size", type=int, default=16)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--kl", type=float, default=0.001)
    parser.add_argument("--warmup-steps", type=int, default=0)
    given = parser.parse_args()

    import torch

    torch.set_num_threads(given.threads)
    setting = Setting(**{name: getattr(given, name) for name in Setting._fields})
    print(setting, flush=True)
    curves = {s: run_in_process(s, setting, given.final, given.every, given.cache) for s in given.seeds}
    print("\nseed " + " ".join(f"{point.step:>6d}" for point in next(iter(curves.values()))) + "   valid at the end")
    for seed, points in curves.items():
        print(f"{seed:4d} " + " ".join(f"{point.accuracy:6.3f}" for point in points) + f"   {points[-1].valid:.3f}")
    before = [points[0].accuracy for points in curves.values()]
    after = [points[-1].accuracy for points in curves.values()]
    for name, values in (("before", before), ("after", after)):
        print(f"{name}: mean {statistics.mean(values):.3f}, min {min(values):.3f}, max {max(values):.3f}")


if __name__ == "__main__":
    main()
