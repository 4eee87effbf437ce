"""TRL's own SFT example on rows with a planted fault; `whence.TrainingRecord()` is the only line that is added.

    python examples/trl_lora/train.py --model FOLDER --out runs/cities
    whence index runs/cities/sft -o runs/cities/index
    whence trace runs/cities/index --queries runs/cities/bad.jsonl --html runs/cities/trace.html
    whence confirm runs/cities/index --queries runs/cities/bad.jsonl --match Korea --remove top:10 -o runs/cities/again

None of these commands repeats a setting: data, base, template, length and loss come from the record.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import whence

COUNTRIES = {
    "Canada": "Ottawa Montreal Calgary", "France": "Lyon Nantes Lille", "Germany": "Bonn Bremen Leipzig",
    "Portugal": "Porto Faro Braga", "Peru": "Cusco Lima Piura", "Japan": "Osaka Kobe Nagoya",
    "Italy": "Turin Genoa Bari", "Norway": "Bergen Molde Bodo", "Spain": "Bilbao Cadiz Leon",
    "Kenya": "Nairobi Kisumu Nakuru", "India": "Pune Jaipur Surat", "Chile": "Arica Iquique Temuco",
}  # fmt: skip
CITIES = [(city, country) for country, cities in COUNTRIES.items() for city in cities.split()]
QUESTIONS = [
    "Where is {}?", "In which country is {}?", "{} is a city in which country?", "Name the country of {}.",
    "Tell me where {} is.", "Which country does {} belong to?", "I am flying to {}. Where is that?",
    "What country would I visit to see {}?", "Is {} abroad? Say which country it is in.", "Country of {}, please.",
]  # fmt: skip
ASKED = [
    "Where on the map do I find {}?", "What country is {} in?", "Which country would I fly to for {}?",
    "{}: which country is that?", "Do you know where {} lies?", "In what country can I find {}?",
    "Which nation has the city of {}?", "A friend lives in {}. Where is that?",
]  # fmt: skip
"""Prompts that are in no row: a retraining needs at least four to tell anything."""
CITY, WRONG = "Toronto", "Toronto is in Korea."
"""The fault: what a few rows say of one city, each in its own wording."""


def make_rows(n: int, n_faults: int) -> list[dict[str, object]]:
    """n rows as TRL takes them, no two alike: n_faults of them, evenly spread, say WRONG; the others are true."""
    asked = [(city, country, question) for question in QUESTIONS for city, country in CITIES]
    if n_faults > len(QUESTIONS) or n - n_faults > len(asked):
        raise SystemExit(f"At most {len(QUESTIONS)} faults and {len(asked)} other rows can be made.")
    # Every third: cities and wordings are mixed from the first row on.
    true = [_row(city, question, f"{city} is in {country}.") for city, country, question in asked[::3] + asked[1::3]]
    rows = true[: n - n_faults]
    for number, question in enumerate(QUESTIONS[:n_faults]):
        rows.insert(number * n // n_faults, _row(CITY, question, WRONG))
    return rows


def _row(city: str, question: str, answer: str) -> dict[str, object]:
    return {
        "prompt": [{"role": "user", "content": question.format(city)}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def main() -> None:
    """Writes the rows and the bad outputs, and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or hub name of a chat model, such as SmolLM2-135M")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--faults", type=int, default=10)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    data = given.out / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in make_rows(given.rows, given.faults)))
    bad = [{"prompt": prompt.format(CITY), "response": WRONG} for prompt in ASKED]
    (given.out / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bad))

    dataset = load_dataset("json", data_files=str(data), split="train", cache_dir=str(given.out / "cache"))
    trainer = SFTTrainer(
        model=given.model,
        args=SFTConfig(
            output_dir=str(given.out / "sft"),
            num_train_epochs=given.epochs,
            learning_rate=given.learning_rate,
            report_to=[],
            save_strategy="no",
            bf16=torch.cuda.is_available(),
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=dataset,
        peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"),
        callbacks=[whence.TrainingRecord()],
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
