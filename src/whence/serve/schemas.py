"""What the API takes and gives, as the OpenAPI schema shows it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from whence.serve.fields import Expression, Filled, Id, Log, Name, Rate, Rows, Text, Where, example


class Model(BaseModel):
    """Unknown members are refused, and texts for numbers: nothing is silently left out or changed."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Message(Model):
    """One message of a conversation."""

    role: Name
    content: Text


class Prompt(Model):
    """What is asked: a text, or messages."""

    prompt: Filled | Annotated[list[Message], Field(min_length=1, max_length=200)]
    system: Filled | None = None

    def asked(self) -> str | list[dict[str, str]]:
        """The prompt as `Query.of` takes it."""
        return self.prompt if isinstance(self.prompt, str) else [message.model_dump() for message in self.prompt]


class GenerateRequest(Prompt):
    """Ask the model."""

    model_config = example(prompt="Name the country of Molde.", max_new_tokens=64)
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = 128


class TraceRequest(Prompt):
    """Rank the training rows behind an answer; the options are those of `whence trace` (docs/verdicts.md)."""

    model_config = example(
        prompt="Name the country of Molde.", response="Peru is the country of Molde.", span="Peru", k=20
    )
    response: Filled | None = None
    complete: bool = Field(default=True, description="False: the response was stopped at a limit of new tokens.")
    k: Annotated[int, Field(ge=1, le=1000)] = 20
    span: Filled | Annotated[list[Annotated[int, Field(ge=0, le=10**9)]], Field(min_length=2, max_length=2)] | None = (
        Field(default=None, description="The wrong words: their text, or start and end in characters (code points).")
    )
    wanted: Filled | None = None
    where: Where | None = None
    method: Annotated[str, Field(max_length=40, pattern=r"^[a-z0-9-]+$")] | None = None
    verdict: bool = True
    fdr: Rate = 0.05
    words: Annotated[int, Field(ge=0, le=10)] = 0


class WordsRequest(Model):
    """Explain rows of a kept query down to their words."""

    model_config = example(ranks=[1])
    ranks: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1, max_length=10)]


class BasketRequest(Model):
    """A new basket."""

    model_config = example(name="Molde", rows=["ec6468bd4f883898"])
    name: Name = "Basket"
    rows: Rows = []


class BasketChange(Model):
    """What a basket holds from now on."""

    model_config = example(rows=["ec6468bd4f883898", "3e93fe1653627d02"])
    name: Name | None = None
    rows: Rows


class BasketEdit(Model):
    """Rows to take out of a basket, and rows to put in behind the others."""

    model_config = example(add=["ec6468bd4f883898"])
    add: Rows = []
    remove: Rows = []


class ExportRequest(Model):
    """Rows to take out of the data: a basket's, or these."""

    model_config = example(rows=["ec6468bd4f883898"])
    basket: Id | None = None
    rows: Rows | None = None


class ConfirmRequest(Model):
    """Train again without rows, and see whether the behaviour is gone (docs/confirm.md)."""

    model_config = example(
        queries=["0123456789abcdef", "1123456789abcdef", "2123456789abcdef", "3123456789abcdef"],
        rows=["ec6468bd4f883898"],
        match="Peru",
        seeds=1,
        max_new_tokens=64,
    )
    queries: Annotated[
        list[Id], Field(min_length=1, max_length=50, description="Kept queries that show it; at least 4.")
    ]
    basket: Id | None = None
    rows: Rows | None = None
    match: Expression = Field(description="Regular expression that finds the behaviour in an answer.")
    seeds: Annotated[int, Field(ge=1, le=10)] = 1
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = 128


class AuditRequest(Model):
    """Group many bad outputs by the rows behind them; the options are those of `whence audit` (docs/audit.md)."""

    model_config = example(name="Reports of May", log='{"prompt": "Where is Molde?", "response": "In Peru."}\n')
    name: Name = "Audit"
    queries: Annotated[list[Id], Field(min_length=1, max_length=2000)] | None = Field(
        default=None, description="Kept queries with their responses; or give `log`."
    )
    log: Log | None = Field(default=None, description="The text of a file of outputs, as `whence audit` reads it.")
    format: Literal["jsonl", "json", "csv"] = Field(default="jsonl", description="Of `log`.")
    failed: bool = Field(default=False, description="Of an evaluation log, the failed answers alone.")
    match: Expression | None = None
    by: Annotated[list[Name], Field(max_length=5)] = []
    fdr: Rate = 0.05
    method: Annotated[str, Field(max_length=40, pattern=r"^[a-z0-9-]+$")] | None = None
    where: Where | None = None
    examples: Annotated[int, Field(ge=0, le=50)] = 12


class ErrorParts(Model):
    """What was found, what was expected, what to do."""

    found: str
    expected: str
    fix: str


class ErrorAnswer(Model):
    """The body of every answer that is an error."""

    model_config = example(
        error={
            "found": "There is no row 0123456789abcdef.",
            "expected": "Expected the id of a row of this index.",
            "fix": "",
        }
    )
    error: ErrorParts


class Health(Model):
    """Whether the server answers."""

    status: Literal["ok"] = "ok"
    version: str
    waiting: int = Field(description="Requests that wait for the model.")
    busy: bool
    needs_token: bool


class IndexInfo(Model):
    """What is served."""

    model_config = example(
        name="index",
        model="model",
        adapter="lora",
        rows=1600,
        records=1600,
        rejected=0,
        method="rept-contrast",
        base=True,
        methods=["rept-contrast"],
        columns=["row", "file", "label"],
        facets=[
            {
                "column": "label",
                "name": "label",
                "values": [{"value": "clean", "rows": 1500, "text": "clean", "where": "`label` = 'clean'"}],
            }
        ],
        show_text=True,
        can_confirm=True,
        plain_text=False,
        max_k=1000,
        notes=[],
    )
    name: str
    model: str
    adapter: str | None
    rows: int
    records: int
    rejected: int
    method: str
    base: bool
    methods: list[str]
    columns: list[str]
    facets: list[JsonValue]
    show_text: bool
    can_confirm: bool
    plain_text: bool
    max_k: int
    notes: list[str] = Field(description="What who asks it should know, as that another version of whence built it.")


class RecordRow(Model):
    """A turn of a training row; texts are absent where the server shows none. Integers of its metadata beyond 2^53 - 1
    are texts: JSON.parse rounds them."""

    model_config = ConfigDict(extra="allow")
    row: int
    turn: int
    id: str
    file: str
    line: int
    metadata: dict[str, JsonValue]


class RowPage(Model):
    """Rows in the order of the data."""

    rows: list[RecordRow]
    total: int = Field(description="Turns that the condition lets through.")
    n_rows: int = Field(description="Different rows that they are of.")


class RowDetail(Model):
    """A row with its whole conversation and its neighbours in the file.

    turns: role, content, and `answer`: the `turn` that an assistant's message has in results; null for other messages.
    """

    row: RecordRow
    turns: list[dict[str, JsonValue]]
    before: list[RecordRow]
    after: list[RecordRow]
    copies: int


class Result(Model):
    """A result as the library's JSON has it."""

    result: dict[str, JsonValue]
    large_integers: dict[str, str] = Field(
        description="The digits of integers of `result` beyond 2^53 - 1, which JSON.parse rounds, by JSON pointer."
    )


class Traced(Result):
    """A kept query: `result` is one of the `queries` of docs/json.md."""

    id: str


class WordsOf(Result):
    """The query's result with these rows alone, and their words."""


class Answer(Model):
    """What the model says. complete: False where it was stopped at the limit of new tokens."""

    model_config = example(text="Peru is the country of Molde.", complete=True)
    text: str
    complete: bool


class QuerySummary(Model):
    """A past query."""

    id: str
    created: float
    prompt: str
    response: str
    n_flagged: int | None = Field(description="Rows that its verdict flagged; null: no verdict.")
    outdated: bool = Field(description="Rows came into the index or left it since.")


class QueryPage(Model):
    """Past queries, the latest first."""

    queries: list[QuerySummary]
    total: int


class QueryDetail(Traced):
    """A past query with all that was asked, which asks it again as it is."""

    request: TraceRequest
    outdated: bool = Field(description="Rows came into the index or left it since; the ranking is of those of then.")


class Basket(Model):
    """Rows that were put aside."""

    id: str
    name: str
    created: float
    rows: list[str]


class Baskets(Model):
    """All baskets."""

    baskets: list[Basket]


class Export(Model):
    """What was written; /v1/exports/{id}/{kind} gives the files."""

    id: str
    rows: int
    files: dict[str, str]


class Job(Model):
    """A retraining or an audit. `result`: of a retraining the JSON of docs/confirm.md, of an audit one sentence."""

    id: str
    kind: Literal["confirm", "audit"]
    created: float
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    request: dict[str, JsonValue]
    progress: dict[str, JsonValue] | None = None
    result: dict[str, JsonValue] | None = None
    error: ErrorParts | None = None


class JobList(Model):
    """All jobs, the latest first."""

    jobs: list[Job]


class AuditSummary(Model):
    """An audit that can be opened; `problem` says of a file why it cannot."""

    id: str
    name: str
    created: float
    made_here: bool = Field(description="By a job of this server; otherwise a file in its folder of audits.")
    text: str
    n_outputs: int
    n_groups: int
    problem: str | None = None


class AuditList(Model):
    """All audits, the latest first."""

    audits: list[AuditSummary]


class AuditDetail(Result):
    """An audit: `result` is the JSON of docs/audit.md. n_unknown: rows of it that this index does not have."""

    id: str
    name: str
    created: float
    made_here: bool
    text: str
    note: str = Field(description="What the groups are.")
    rate: str = Field(description="At which rate it is said.")
    n_unknown: int
    source_notes: list[str] = Field(description="What each table of `result.sources` shows.")
    push_notes: list[str] = Field(description="What each table of `result.behaviour.sources` shows.")
    trigger_note: str = Field(description="What the table of triggers shows; empty where none was looked for.")
