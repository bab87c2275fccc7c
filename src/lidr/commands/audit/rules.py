"""A judge by rules: regular expressions in place of a model. It needs no model, and understands nothing.

It finds words that usually document a variable, so it takes "we did not use a GPU such as the A100" for hardware. Its
quotations are pieces of the document by construction. Measure it on labels of your own before you trust it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lidr.commands.audit.audit import Audit, Finding, JudgedBy
from lidr.commands.audit.document import Document, Passage
from lidr.report.variables import VARIABLES, Variable

VERSION = 1  # increase it if the rules find something else
_MOST_EVIDENCE = 3  # passages of one value
_HEAD = 3000  # characters in which authors and their affiliations are
_LONGEST = 300  # characters of a passage

_NUMBER = r"\d+(?:[.,]\d+)*(?:e-?\d+)?"
_RELEASE = r"v?\d+(?:\.\d+)+"
_SOFTWARE = (
    r"(?:Python|PyTorch|torch|TensorFlow|JAX|Keras|scikit-learn|NumPy|SciPy|pandas|CUDA|cuDNN|transformers|DeepSpeed|"
    r"vLLM|TRL|PEFT|MATLAB|Julia|Java|GCC|Ubuntu|R)"
)
_DATA_SETS = (
    r"(?:MNIST|CIFAR-?100?|ImageNet|MS[- ]?COCO|SQuAD|GLUE|SuperGLUE|WMT ?'?\d\d|GSM8K|MGSM|MSVAMP|MMLU|HellaSwag|"
    r"TruthfulQA|AlpaGasus|AlpacaEval|FLORES(?:-\d+)?|XNLI|Wikipedia|Common ?Crawl|LibriSpeech|PubMed|UCI)"
)
_SPLIT = r"(?:train(?:ing)?|dev(?:elopment)?|validation|test(?:ing)?|held-?out)"
_GPU = r"(?:A100|H100|H200|B200|V100|P100|K80|T4|L4|L40S?|A10G?|A6000|RTX ?\d{4}|GTX ?\d{4}|MI\d{3}X?)"
_PUBLIC = r"(?:publicly available|freely available|open[- ]access|open|public)"
_DATA = r"(?:data ?sets?|data|corpora|corpus|benchmarks?)"

# (variable, value) -> patterns; `(?i)` if case does not matter. A passage with one of `_PROMISES` does not count.
RULES: dict[tuple[str, str], tuple[str, ...]] = {
    ("research_type", "experimental"): (
        r"(?i)\b(?:(?:our|the|these) experiments|experimental results?|ablations?|benchmarked)\b",
        r"(?i)\bempirical (?:results?|stud\w+|evaluation|comparison)\b",
        r"(?i)\bwe (?:evaluate|measure|train|fine-?tune|test|benchmark)\b",
        r"(?i)\b(?:accuracy|F1|win rate|BLEU|error rate)\W{1,3}(?:of|is|was|reach\w*|improv\w*)\b",
    ),
    ("research_type", "theoretical"): (r"\b(?:Theorem|Lemma|Proposition|Corollary)\s+\d+", r"(?m)^[^\S\n]*Proof\."),
    ("affiliation", "academia"): (
        r"(?i)\b(?:universi\w+|college|institute of technology|academy of sciences|polytechni\w+|eth z\w+)\b",
        r"\b(?:CNRS|INRIA|Inria|MIT|Max[- ]Planck|Fraunhofer|Helmholtz)\b",
    ),
    ("affiliation", "industry"): (
        r"\b(?:Inc\.|Ltd\.?|GmbH|Corp(?:\.|oration)|LLC|S\.A\.|AG\b)",
        r"\b(?:Google(?! (?:Translate|Scholar|Colab|Cloud|Drive))|DeepMind|Microsoft|Meta AI|Facebook|OpenAI)\b",
        r"\b(?:Amazon|Apple|NVIDIA|IBM|Intel Labs|Samsung|Huawei|Tencent|Alibaba|Baidu|ByteDance|Salesforce|Adobe)\b",
        r"\b(?:Anthropic|Hugging Face|Mistral AI|Cohere)\b",
    ),
    ("pseudocode", "yes"): (
        r"(?m)^[^\w\n]*Algorithm\s+\d+\b",
        r"\\begin\{algorithm",
        r"(?i)\b(?:pseudo-?code (?:is|for|of|in)|see algorithm \d+|algorithm \d+ (?:shows|summari[sz]es|gives|lists))",
    ),
    ("open_source_code", "yes"): (
        r"https?://(?:www\.)?(?:github\.com|gitlab\.[\w.]+|bitbucket\.org|codeberg\.org)/[\w.-]+/[\w.-]+",
        r"(?i)\b(?:code|sources|implementation|software|package)\b[^.]{0,60}? (?:is|are) (?:\w+ ){0,2}available "
        r"(?:at|from|on|under|via|as)\b",
        r"(?i)\bopen[- ]source (?:implementation|software|package|library|project|code)\b",
    ),
    ("open_data_sets", "yes"): (
        r"https?://(?:huggingface\.co/datasets|(?:www\.)?kaggle\.com|zenodo\.org|archive\.ics\.uci\.edu)/[\w./-]+",
        rf"(?i)\b{_PUBLIC} (?:\w+ )?{_DATA}\b",
        rf"(?i)\b{_DATA} (?:is|are) (?:made )?{_PUBLIC}\b",
        rf"\b{_DATA_SETS}\b",
    ),
    ("data_set_splits", "yes"): (
        rf"(?i)\b{_SPLIT}(?:[ /,-]+(?:and )?{_SPLIT})*[ -](?:splits?|sets?|partitions?|portions?)\b",
        r"(?i)\b\d+[- ]fold cross[- ]validation\b",
        rf"(?i){_NUMBER} ?% (?:\w+ ){{0,4}}for (?:training|validation|testing|evaluation)",
        r"(?i)\bsplit(?:s|ted)? (?:\w+ ){0,4}into (?:\w+ ){0,3}(?:train|test|validation|fold)",
    ),
    ("hardware", "yes"): (
        rf"\b(?:NVIDIA |Nvidia |Tesla |GeForce )*{_GPU}\b",
        r"\bTPU[ -]?v\d",
        r"\b(?:Intel(?:\(R\))? (?:Xeon|Core)|Xeon|AMD (?:EPYC|Ryzen)|EPYC|Ryzen|Apple M\d)\b",
        rf"{_NUMBER} ?(?:GB|GiB|TB) (?:of )?(?:RAM|(?:main |GPU )?memory)\b",
    ),
    ("software_dependencies", "yes"): (
        rf"\b{_SOFTWARE}(?:,? \(?version)? ?[=<>~]*\(?{_RELEASE}",
        r"(?i)\b(?:requirements\.txt|environment\.yml|poetry\.lock|constraints\.txt|conda env create|Dockerfile)\b",
        rf"\bpip install \S+=={_RELEASE}",
    ),
    ("experiment_setup", "yes"): (
        rf"(?i)\b(?:learning rate|batch size|weight decay|dropout|temperature|beam size|random seed|seed|momentum)"
        rf"\W{{0,3}}(?:\w+ ){{0,3}}?(?:of|is|was|to|=|:)? ?\$?{_NUMBER}",
        rf"(?i)\b{_NUMBER} (?:training )?(?:epochs|gradient steps|training steps|iterations)\b",
        rf"(?i)\b(?:epochs|training steps) ?[=:] ?{_NUMBER}",
    ),
}
_PROMISES = re.compile(r"(?i)\b(?:will be|upon (?:acceptance|publication|request)|to be released|on request)\b")
_REFERENCES = re.compile(r"(?mi)^[^\w\n]*(?:\d+\.? )?(?:references|bibliography)\W*$")
_AFTER_REFERENCES = re.compile(r"(?m)^[^\w\n]*(?:Appendix|Appendices|Supplementary|[A-H]\.? [A-Z][a-z]+)\b")


def audit_by_rules(document: Document) -> Audit:
    """All variables of a document by `RULES`. Its list of references, which is about others, does not count."""
    parts = list(_own_parts(document.text))
    findings = tuple(_find(document, variable, parts) for variable in VARIABLES)
    return Audit(document.name, JudgedBy(kind="rules", version=VERSION), 1, len(document.text), findings)


def _own_parts(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of the text before the references, and of the appendix after them."""
    headings = [match for match in _REFERENCES.finditer(text) if match.start() > len(text) // 3]
    if not headings:
        yield 0, len(text)
        return
    yield 0, headings[-1].start()
    if appendix := _AFTER_REFERENCES.search(text, headings[-1].end()):
        yield appendix.start(), len(text)


def _find(document: Document, variable: Variable, parts: list[tuple[int, int]]) -> Finding:
    if variable.name == "affiliation":
        return _find_affiliation(document, variable)
    for value in variable.values:
        if evidence := _evidence(document, RULES[variable.name, value], parts):
            return Finding(variable.name, value, evidence)
    return Finding(variable.name, variable.absent)


def _find_affiliation(document: Document, variable: Variable) -> Finding:
    """From the head of the document; both kinds together are a collaboration."""
    head = [(0, min(_HEAD, len(document.text)))]
    found = {kind: _evidence(document, RULES[variable.name, kind], head)[:1] for kind in ("academia", "industry")}
    if all(found.values()):
        return Finding(variable.name, "collaboration", tuple(dict.fromkeys(found["academia"] + found["industry"])))
    for kind, evidence in found.items():
        if evidence:
            return Finding(variable.name, kind, evidence)
    return Finding(variable.name, variable.absent)


def _evidence(document: Document, patterns: tuple[str, ...], parts: list[tuple[int, int]]) -> tuple[Passage, ...]:
    """The first passages in which the patterns match, in the patterns' order; none of them twice."""
    spans: list[tuple[int, int]] = []
    for pattern in patterns:
        for first, last in parts:
            for match in re.compile(pattern).finditer(document.text, first, last):
                if any(start <= match.start() < end for start, end in spans):
                    continue
                span = _around(document.text, match.start(), match.end(), first, last)
                if not _PROMISES.search(document.text, *span):
                    spans.append(span)
                if len(spans) >= _MOST_EVIDENCE:
                    return tuple(document.passage(*span) for span in spans)
    return tuple(document.passage(*span) for span in spans)


def _around(text: str, start: int, end: int, first: int, last: int) -> tuple[int, int]:
    """The sentence around a match, or as much of it as stays short; it never leaves its part of the document."""
    room = max(0, _LONGEST - (end - start)) // 2
    earliest, latest = max(first, start - room), min(last, end + room)
    ends = [match.end() for match in re.finditer(r"[.!?]\s|\n\s*\n", text[earliest:start])]
    if ends:
        earliest += ends[-1]
    elif earliest > first:  # not in the middle of a word
        earliest = text.find(" ", earliest, start) + 1 or start
    if stop := re.search(r"[.!?](?=\s)|\n\s*\n", text[end:latest]):
        latest = end + stop.end()
    elif latest < last:
        latest = max(end, text.rfind(" ", end, latest))
    return earliest, latest
