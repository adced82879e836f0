"""Recognises folder names that mean a part of the data (a split, or unlabelled images) and not a class.

``imagefolder`` asks before it makes a folder a class. model.split_of knows the names that mean splits. Here are names that may
mean one, which only a person can decide: other languages, and names with additions, such as ``trainA`` or ``cod_test``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from pelagos_contract.splits import Split
from pelagos_pipelines.annotations.model import FILLERS, SPLIT_NAMES, plain_words

_UNLABELLED = re.compile(
    r"(?:un|non|no|not|without|missing|lacking|to|needs?|pending|awaiting)(?:yet)?(?:to)?(?:be)?"
    r"(?:label|labels|labell?ed|labell?ing|annotate|annotated|annotation|annotations)(?:yet|data|images|imgs)?|unlab"
)
_UNLABELLED_ELSEWHERE = re.compile(
    r"(?:un|nicht|ohne|sin|sans|sem|senza|nao|no|non|niet|zonder|ikke|inte|utan|uden|uten|без|не|未|无|無)(?:ge)?"
    r"(?:label\w*|beschriftet|annot\w*|etiquet\w*|etichett\w*|rotul\w*|merket?|markert|разме\w*|аннот\w*|标\w+|標\w+)"
)
_DOUBTFUL = frozenset(
    {
        *("eval", "evaluate", "evaluation", "predict", "prediction", "predictions", "inference", "infer"),
        *("trainval", "traintest", "trainvaltest", "valtest", "fold", "folds", "crossval", "subset"),
        *("labelled", "labeled", "annotated"),
    }
)
"""Names of parts of the data that do not determine the split."""
_CATCH_ALL = frozenset(
    {"unknown", "unsorted", "unclassified", "unidentified", "undetermined", "todo", "misc", "none", "null", "na"}
)
_ELSEWHERE: Mapping[Split, str] = {
    "train": "trainings lern entrenamiento entrenar treino treinamento entrainement apprentissage addestramento allenamento"
    " trening traening trenings tranings traenings opplaering oefen egitim treningowy uczenie обучение обучающая обучающий"
    " тренировочная тренировка 训练 訓練 学習 훈련 학습",
    "validation": "validierung validierungs validacion validacao validazione validatie validering validerings walidacja"
    " dogrulama валидация валидационная валидационный 验证 驗證 検証 검증",
    "test": "prueba pruebas teste testes essai essais prova pruf prufung testowy testy тест тестовая тестовый тесты"
    " 测试 測試 テスト 테스트 시험",
}
"""In German, Spanish, Portuguese, French, Italian, Scandinavian languages, Dutch, Polish, Turkish, Russian, East Asian
languages."""
_SAYING_NOTHING = (
    "sets daten datensatz bilder bild satz menge datos imagenes conjunto juego de del di du des dados imagens jeu donnees"
    " ensemble dati immagini insieme beelden bilde og und and the для данные выборка набор"
    " 集 数据 数据集 數據 圖像 图像 图片 样本 セット データ 画像 데이터 이미지"
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W\d_]+")


def _plain(text: str) -> str:
    """The text without case, accents and compatibility forms."""
    shown = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return shown.casefold().replace("æ", "ae").replace("ø", "o")


_WORDS: Mapping[str, Split] = {
    **SPLIT_NAMES,
    **{_plain(word): split for split, listed in _ELSEWHERE.items() for word in listed.split()},
}
_BY_LENGTH = sorted(_WORDS, key=len, reverse=True)
_NOTHING = FILLERS | frozenset(map(_plain, _SAYING_NOTHING.split()))
_NUMBERS = re.compile(r"\d+")
_YEAR = re.compile(r"(?:19|20)\d\d(?!\d)|(?:19|20)\d\d[01]\d[0-3]\d(?!\d)")
_TAXA = frozenset({"sp", "spp", "species", "class", "taxon", "taxa", "genus", "otu", "morphotype", "aphia", "aphiaid"})
_PLACES = frozenset(
    {
        *("station", "stations", "stn", "site", "haul", "dive", "deployment", "camera", "cruise", "transect", "day"),
        *("date", "frame", "tow", "trap", "plot", "quadrat", "replicate", "batch", "sample", "tank", "trip", "video"),
        *("clip", "cast", "survey", "location", "position", "zone"),
    }
)
_CODE = 4
"""Most letters of a code, such as that of a cruise (``HE542``)."""
_SHORT = frozenset({"tr", "te"})
_SHORT_OF = _SHORT | {"va", "vl"}
_STEMS: Mapping[str, Split] = {"train": "train", "valid": "validation", "val": "validation", "test": "test"}
"""Stems at the start or end of a compound word, as in ``xtrain`` beside ``xtest``."""


def is_unlabelled(name: str) -> bool:
    """Whether the name means that the images are not labelled."""
    return _UNLABELLED.fullmatch(plain_words(name)) is not None


def is_doubtful(name: str) -> bool:
    """Whether the name means a part of the data, without determining which."""
    if plain_words(name) in _DOUBTFUL or _UNLABELLED_ELSEWHERE.fullmatch("".join(_words(name))):
        return True
    return any(map(_UNLABELLED.fullmatch, _words(name)))  # its other words may be a class


def is_catch_all(name: str) -> bool:
    """Whether the name means a class for everything that could not be identified."""
    return plain_words(name) in _CATCH_ALL


def says_nothing(name: str) -> bool:
    """Whether a name only consists of words such as "set" and "images", as in ``split1``. Numbers alone may be classes."""
    return not plain_words(name) and any(letter.isalpha() for letter in name)


def is_empty(name: str) -> bool:
    """Whether a folder adds no meaning to the one above, as in ``cod/images``. Names with numbers may be parts of the data."""
    return says_nothing(name) and not any(letter.isdigit() for letter in name)


def numbered(names: Iterable[str]) -> list[str]:
    """The names that look like stations, hauls or dates: numbers, codes, or one stem with several numbers. Taxa may have
    numbers."""
    stems = {name: _NUMBERS.sub("#", name.casefold()) for name in names if _NUMBERS.search(name)}
    count = Counter(stems.values())
    found = []
    for name, stem in stems.items():
        words = _WORD.findall(stem)
        is_code = sum(map(len, words)) <= _CODE
        if _TAXA.isdisjoint(words) and (count[stem] > 1 or is_code or not _PLACES.isdisjoint(words)):
            found.append(name)
    return found


def is_year(name: str) -> bool:
    """Whether the name is a year or begins with one, like a date, and therefore is not a class."""
    return _YEAR.match(name) is not None


def named_like_parts(names: Sequence[str]) -> list[str]:
    """The names of sibling folders that are more likely parts of the data than classes.

    A name without any other meaning is one, such as ``Testdaten``. For other names the siblings decide, because ``test tube`` and
    ``urchin test`` are classes: names that only differ in the split, as ``cod_train`` and ``cod_test``, or half of all names.
    """
    spoken = {name: found for name in names if (found := _splits(name))}
    bare = {name for name in spoken if not _rest(name)}
    pairs: dict[str, dict[str, Split]] = defaultdict(dict)
    for name in names:
        for rest, split in _divided(name):
            pairs[rest][name] = split
    paired = {name for found in pairs.values() if len(set(found.values())) > 1 for name in found}
    several = len(frozenset[Split]().union(*spoken.values())) > 1
    paired |= {name for name in names if name.lower() in _SHORT_OF} if set(map(str.lower, names)) >= _SHORT else set()
    if paired or (several and 2 * len(spoken) >= len(names)):
        return sorted({*paired, *spoken})
    return sorted(bare)


def speaking_of_splits(names: Sequence[str]) -> list[str]:
    """The names that contain a word for a split."""
    return [name for name in names if _splits(name)]


def _divided(name: str) -> Iterator[tuple[str, Split]]:
    """All readings of a name as a split and the remaining text."""
    if len(found := _splits(name)) == 1:
        yield "".join(_rest(name)), next(iter(found))
    joined = "".join(_words(name))
    for stem, split in _STEMS.items():
        if joined.startswith(stem) and joined != stem:
            yield joined.removeprefix(stem), split
        if joined.endswith(stem) and joined != stem:
            yield joined.removesuffix(stem), split


def _splits(name: str) -> frozenset[Split]:
    return frozenset(_WORDS[found] for word in _words(name) if (found := _found(word)) is not None)


def _rest(name: str) -> list[str]:
    """The words with another meaning than a split."""
    return [word for word in _words(name) if _found(word) is None and word not in _NOTHING]


@lru_cache(maxsize=4096)
def _words(name: str) -> tuple[str, ...]:
    """The words of a name as a person reads it: ``trainA`` has two; accents and case are ignored."""
    return tuple(_WORD.findall(_plain(_CAMEL.sub(" ", unicodedata.normalize("NFC", name)))))


def _found(word: str) -> str | None:
    """The word for a split that this word is or contains, as in ``Testdaten`` or ``训练集``."""
    if word in _WORDS:
        return word
    return next((known for known in _BY_LENGTH if word.startswith(known) and word[len(known) :] in _NOTHING), None)
