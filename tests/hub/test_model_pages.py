"""Pages of models: who sees them, their content, pictures and documents, and answers for programs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import catalogued
from catalogued import PICTURE, collected, served, trained
from hub_sites import Site
from object_storage import ObjectStorage
from pelagos.ports.errors import RejectedError
from pelagos_contract import model_image
from pelagos_contract.model_card import Card
from pelagos_hub.catalogue.entries import Document
from pelagos_hub.documents import AlteredError, Documents
from pelagos_hub.login.identity import Person
from pelagos_hub.pages import markdown
from pelagos_hub.settings import Settings


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A hub with one public model that has figures and a picture."""
    made = Site(PELAGOS_OBJECTS_ROOT=tmp_path)
    made.cluster.put(served(card={"pictures": [PICTURE, PICTURE | {"key": "gone.png"}, PICTURE | {"key": "bad.png"}]}))
    made.cluster.put(trained())
    made.cluster.put(collected())
    made.cluster.pictures["reef", "pictures", "frame.png"] = catalogued.picture()
    made.cluster.pictures["reef", "pictures", "bad.png"] = b"<svg onload=alert(1)>"
    return made


def signed_in(site: Site, *entitlements: str) -> dict[str, str]:
    """The cookie of a logged-in person."""
    number, _ = site.hub.sessions.begin(Person("0123456789abcdef", "Jo", frozenset(entitlements)))
    return {"pelagos-8088": number}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {name for name, _ in attrs if name.startswith("on") or name == "style"}
        self.found |= {str(value) for name, value in attrs if tag == "img" and name == "src"}


def handlers_and_pictures(page: str) -> set[str]:
    """A page's pictures, and its attributes that run or style something."""
    tags = _Tags()
    tags.feed(page)
    return tags.found


async def test_the_catalogue_shows_cards_with_figure_version_and_proof(site: Site) -> None:
    async with site.visitor() as visitor:
        page = (await visitor.get("/")).text

    for words in ("Phytoplankton of the North Sea", "mAP50", "0.853", "(0.81 to 0.891)", "a1b2a1b2a1b2", "CC-BY-4.0"):
        assert words in page
    assert re.search(r"Answers correctly.*for 12 min", page)


async def test_the_page_of_a_model_has_all_its_parts(site: Site) -> None:
    async with site.visitor() as visitor:
        page = (await visitor.get("/models/reef/plankton")).text

    for words in (
        "Not for counts that nobody checks.",
        "not tried on others",
        "jo@example.org",
        "By site, each left out of training",
        "Bergen",
        "FlowCam frames of the North Sea",
        "--data-binary @image.jpg http://127.0.0.1:8000/reef/plankton/v2/models/plankton/infer",
        "0a" * 32,
        "ProbeSucceeded",
        "3 images of the test split look like",
    ):
        assert words in page


@pytest.mark.parametrize("catalogue", ["Private", "Namespace", "Public"])
async def test_who_sees_a_model(catalogue: str) -> None:
    site = Site(namespace_entitlement="urn:group:{namespace}")
    site.cluster.put(served(catalogue=catalogue))
    visitors = {
        "nobody": {},
        "somebody": signed_in(site),
        "of another group": signed_in(site, "urn:group:deep-sea"),
        "of the group": signed_in(site, "urn:group:reef"),
    }
    expected = {"Private": set(), "Namespace": {"of the group"}, "Public": set(visitors)}[catalogue]

    for who, cookies in visitors.items():
        async with site.visitor(cookies=cookies) as visitor:
            paths = ("/models/reef/plankton", "/api/models/reef/plankton")
            statuses = {(await visitor.get(path)).status_code for path in paths}
            listed = (await visitor.get("/api/models")).json()["total"]
        assert statuses == ({200} if who in expected else {404}), who
        assert listed == (1 if who in expected else 0)


@pytest.mark.parametrize(
    ("catalogue", "kept"), [("Public", "private, max-age=3600"), ("Namespace", "private, no-cache")]
)
async def test_what_is_not_for_everybody_is_not_shown_again_to_whoever_comes_next(catalogue: str, kept: str) -> None:
    site = Site()
    site.cluster.put(served(catalogue=catalogue, card={"pictures": [PICTURE]}))
    site.cluster.pictures["reef", "pictures", "frame.png"] = catalogued.picture()

    async with site.visitor(cookies=signed_in(site)) as visitor:
        picture = await visitor.get("/models/reef/plankton/pictures/0")
    async with site.visitor() as visitor:
        again = await visitor.get(
            "/models/reef/plankton/pictures/0", headers={"If-None-Match": picture.headers["etag"]}
        )

    assert picture.headers["cache-control"] == kept
    assert again.status_code == {"Public": 304, "Namespace": 404}[catalogue]


async def test_without_a_rule_whoever_signed_in_is_admitted_to_every_group() -> None:
    site = Site()
    site.cluster.put(served(catalogue="Namespace"))

    async with site.visitor(cookies=signed_in(site)) as visitor:
        page = await visitor.get("/models/reef/plankton")

    assert "only for reef" in page.text


async def test_text_of_strangers_is_shown_and_never_obeyed(site: Site) -> None:
    evil = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    card: dict[str, Any] = dict.fromkeys(("title", "summary", "intendedUse", "limitations", "citation"), evil)
    card |= {"contact": {"name": evil}, "pictures": [PICTURE | {"description": evil, "credit": evil}]}
    site.cluster.put(served(card=card))
    site.cluster.put(trained(warnings=[evil], metrics={f"test/{evil.replace('/', '')}": "0.5"}))
    site.cluster.put(collected(title=evil, taxa=[{"name": evil}], creators=[{"name": evil}]))

    async with site.visitor() as visitor:
        pages = [
            (await visitor.get(path)).text for path in ("/", "/models/reef/plankton", "/?q=" + evil, f"/?taxon={evil}")
        ]

    for page in pages:
        assert "<script>alert" not in page
        assert handlers_and_pictures(page) <= {"/models/reef/plankton/pictures/0?small&v=1"}


async def test_an_address_without_a_result_says_which_filter_to_drop(site: Site) -> None:
    async with site.visitor() as visitor:
        page = (await visitor.get("/?task=Detection&license=MIT")).text

    assert "No model matches all of this" in page
    assert '<a href="/?task=Detection">Without Licence: MIT</a> <span class="quiet">1 model</span>' in page


async def test_an_empty_catalogue_says_how_models_get_into_it() -> None:
    async with Site().visitor() as visitor:
        page = (await visitor.get("/")).text

    assert "spec.publish.catalogue" in page


# Pictures


async def test_a_picture_is_drawn_anew_and_small_where_many_are_shown(site: Site) -> None:
    async with site.visitor() as visitor:
        small = await visitor.get("/models/reef/plankton/pictures/0?small")
        whole = await visitor.get("/models/reef/plankton/pictures/0")
        again = await visitor.get("/models/reef/plankton/pictures/0", headers={"If-None-Match": whole.headers["etag"]})

    assert small.headers["content-type"] == whole.headers["content-type"] == "image/webp"
    assert (Image.open(io.BytesIO(small.content)).size, Image.open(io.BytesIO(whole.content)).size) == (
        (640, 400),
        (800, 500),
    )
    assert again.status_code == 304


@pytest.mark.parametrize("number", [1, 2, 3, 99])
async def test_a_picture_that_is_not_there_or_none_is_told_or_drawn_as_absent(site: Site, number: int) -> None:
    path = f"/models/reef/plankton/pictures/{number}"
    async with site.visitor() as visitor:
        opened = await visitor.get(path)
        shown = await visitor.get(path, headers={"Sec-Fetch-Dest": "image"}, follow_redirects=True)

    assert opened.status_code == 404
    assert "cannot be shown" in opened.text
    assert "onload" not in opened.text
    assert shown.headers["content-type"].startswith("image/svg+xml")
    assert "not there" in shown.text


async def test_where_a_picture_was_taken_does_not_go_out(site: Site) -> None:
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = "CANARY"
    Image.new("RGB", (64, 64)).save(out, "JPEG", exif=exif)
    site.cluster.pictures["reef", "pictures", "frame.png"] = out.getvalue() + b"CANARY"

    async with site.visitor() as visitor:
        content = (await visitor.get("/models/reef/plankton/pictures/0")).content

    assert b"CANARY" not in content


@pytest.mark.parametrize("size", [(8_000, 8_000), (4_001, 4_000)])
async def test_a_picture_of_too_many_pixels_is_not_decoded(site: Site, size: tuple[int, int]) -> None:
    out = io.BytesIO()
    Image.new("1", size).save(out, "PNG")
    site.cluster.pictures["reef", "pictures", "frame.png"] = out.getvalue()

    async with site.visitor() as visitor:
        answer = await visitor.get("/models/reef/plankton/pictures/0")

    assert answer.status_code == 404
    assert "cannot be shown" in answer.text


# Documents

PASSWD = hashlib.sha256(Path("/etc/passwd").read_bytes()).hexdigest()


async def test_a_document_is_handed_out_as_the_training_wrote_it(site: Site, tmp_path: Path) -> None:
    site.cluster.put(trained(documents=[catalogued.written(tmp_path)]))

    async with site.visitor() as visitor:
        answer = await visitor.get("/models/reef/plankton/model-card.md")
        short = await visitor.get("/models/reef/plankton/card.md")

    assert answer.content == catalogued.CARD_PAGE.encode()
    assert answer.headers["content-disposition"] == 'attachment; filename="plankton-model-card.md"'
    assert short.headers["location"] == "/models/reef/plankton/model-card.md"


async def test_a_document_is_read_from_object_storage(object_storage: ObjectStorage, bucket: str) -> None:
    site = Site(PELAGOS_OBJECTS_URI=f"s3://{bucket}/objects", PELAGOS_S3_ENDPOINT=object_storage.url)
    site.cluster.put(served())
    told = {"name": "model-card.md", "sha256": hashlib.sha256(b"card").hexdigest()}
    object_storage.put(bucket, "objects/models/card.documents/model-card.md", "card")
    object_storage.put(bucket, "secret", "card")

    async with site.visitor() as visitor:
        for uri, status in (
            (f"s3://{bucket}/objects/models/card.documents/model-card.md", 200),
            (f"s3://{bucket}/secret", 404),
            (f"s3://{bucket}/objects/../secret", 404),
            ("s3://other/objects/model-card.md", 404),
        ):
            site.cluster.put(trained(documents=[{**told, "uri": uri}]))
            answer = await visitor.get("/models/reef/plankton/model-card.md")
            assert (answer.status_code, answer.text == "card") == (status, status == 200), uri


async def test_a_document_with_another_digest_is_not_handed_out(site: Site, tmp_path: Path) -> None:
    site.cluster.put(trained(documents=[catalogued.written(tmp_path) | {"sha256": "a" * 64}]))

    async with site.visitor() as visitor:
        answer = await visitor.get("/models/reef/plankton/model-card.md")
        page = await visitor.get("/models/reef/plankton")

    assert answer.status_code == 502
    assert "altered" in answer.text
    assert "cannot be shown" in page.text


@pytest.mark.parametrize("uri", ["/etc/passwd", "../../etc/passwd", "s3://bucket/x", "", "link/passwd"])
async def test_a_status_opens_no_file_outside_of_the_store(tmp_path: Path, uri: str) -> None:
    (tmp_path / "link").symlink_to("/etc")
    asked = Document("model-card.md", str(tmp_path / uri) if uri == "link/passwd" else uri, PASSWD)

    with contextlib.suppress(AlteredError, RejectedError):
        assert await Documents(Settings(PELAGOS_OBJECTS_ROOT=tmp_path)).read(asked) is None


async def test_figures_of_classes_come_from_the_card_of_the_training_without_what_it_may_hide(
    site: Site, tmp_path: Path
) -> None:
    site.cluster.put(trained(documents=[catalogued.written(tmp_path)]))

    async with site.visitor() as visitor:
        page = (await visitor.get("/models/reef/plankton")).text

    assert "Of each class, the worst first" in page
    assert "0.41" in page
    assert "Slices of the test split: site" in page
    assert "Not here." not in page
    assert handlers_and_pictures(page) == {f"/models/reef/plankton/pictures/{number}?small&v=1" for number in range(3)}
    for evil in ("<script>alert", 'href="javascript', "<b>"):
        assert evil not in page


def test_a_card_of_any_size_is_rendered_in_bounds() -> None:
    deep = "> " * 5000 + "x\n" + "[" * 20_000 + "\n" + "| a " * 5000

    assert len(markdown.render(deep * 10)) < 3_000_000


def test_a_card_is_made_into_a_page_once() -> None:
    card = "| *a* " * 1000

    assert markdown.render(card) is markdown.render("".join(card))


# For programs


async def test_programs_get_what_people_see_page_by_page() -> None:
    site = Site()
    catalogued.fill(site.cluster, 60, pictures=False)
    names, address = [], "/api/models?task=Detection&sort=name"

    async with site.visitor() as visitor:
        while address:
            body = (await visitor.get(address)).json()
            names += [item["name"] for item in body["items"]]
            address = body["next"]

    assert len(names) == len(set(names)) == body["total"] == 12


async def test_a_model_for_programs_says_null_for_what_nobody_says(site: Site) -> None:
    site.cluster.put(served("bare", card={"doi": None, "citation": None}))

    async with site.visitor() as visitor:
        full = (await visitor.get("/api/models/reef/plankton")).json()
        bare = (await visitor.get("/api/models/reef/bare")).json()

    assert full["metrics"]["mAP50"] == {"value": 0.8534, "low": 0.8102, "high": 0.8911, "deviation": None}
    assert full["proof"] == {"state": "Right", "since": "2026-06-01T11:48:00Z", "asked": None}
    assert (bare["doi"], bare["dataset"], bare["metrics"]) == (None, None, {})


async def test_search_engines_find_public_models_alone(site: Site) -> None:
    site.cluster.put(served("secret", catalogue="Namespace"))

    async with site.visitor(cookies=signed_in(site)) as visitor:
        content = (await visitor.get("/sitemap.xml")).text
        robots = (await visitor.get("/robots.txt")).text

    assert "<loc>http://127.0.0.1:8088/models/reef/plankton</loc>" in content
    assert "secret" not in content
    assert "Sitemap: http://127.0.0.1:8088/sitemap.xml" in robots


async def test_the_page_carries_what_search_engines_read(site: Site) -> None:
    async with site.visitor() as visitor:
        page = (await visitor.get("/models/reef/plankton")).text
    found = re.search(r'<script type="application/ld\+json">(.*?)</script>', page, re.DOTALL)
    assert found

    said = json.loads(found[1])

    assert said["name"] == "Phytoplankton of the North Sea"
    assert said["license"] == "https://spdx.org/licenses/CC-BY-4.0"
    assert said["isBasedOn"]["@type"] == "Dataset"


def test_the_card_of_these_tests_is_a_card() -> None:
    Card.model_validate({key: value for key, value in catalogued.CARD.items() if key != "doi"})


@pytest.mark.parametrize(("entitlements", "status"), [((), 404), (("urn:group:reef",), 303)])
async def test_what_a_group_publishes_for_itself_is_tried_by_it_alone(
    entitlements: tuple[str, ...], status: int
) -> None:
    site = Site(namespace_entitlement="urn:group:{namespace}")
    site.cluster.put(served(catalogue="Namespace"))

    async with site.visitor(cookies=signed_in(site, *entitlements)) as visitor:
        token = re.search(r'name="csrf" value="([^"]*)"', (await visitor.get("/me")).text)
        assert token
        form = {"csrf": token[1], "namespace": "reef", "service": "plankton"}
        answer = await visitor.post("/trials", data=form, headers={"Origin": site.hub.settings.origin})

    assert answer.status_code == status


async def test_a_page_offers_a_trial_or_says_why_not(site: Site) -> None:
    async with site.visitor() as visitor:
        stranger = (await visitor.get("/models/reef/plankton")).text
    async with site.visitor(cookies=signed_in(site)) as visitor:
        offered = (await visitor.get("/models/reef/plankton")).text
        site.cluster.put(served(status={"conditions": [catalogued.condition("Ready", "False")]}))
        broken = (await visitor.get("/models/reef/plankton")).text

    assert 'href="/login?next=/models/reef/plankton"' in stranger
    assert "<button>Try</button>" in offered
    assert "<button>Try</button>" not in broken
    assert "does not answer correctly" in broken


@pytest.mark.parametrize(
    ("entitlements", "sees"),
    [(None, False), ((), False), (("urn:group:lagoon",), False), (("urn:group:reef",), True)],
    ids=["anonymous", "signed in", "of another namespace", "member"],
)
async def test_words_of_the_operator_are_for_members_and_reasons_for_everybody(
    tmp_path: Path, entitlements: tuple[str, ...] | None, *, sees: bool
) -> None:
    site = Site(PELAGOS_OBJECTS_ROOT=tmp_path, namespace_entitlement="urn:group:{namespace}")
    message = "no answer from http://10.96.0.17:8000; see http://mlflow.internal:5000/#/experiments/1"
    conditions = [
        catalogued.condition("Ready", "False", "ProbeFailed", message),
        catalogued.condition("Probed", "False", "ProbeFailed", message),
    ]
    body = served()
    site.cluster.put({**body, "status": {**body["status"], "conditions": conditions, "endpoints": {}}})
    cookies = {} if entitlements is None else signed_in(site, *entitlements)
    async with site.visitor(cookies=cookies) as visitor:
        page = (await visitor.get("/models/reef/plankton")).text
        told = (await visitor.get("/api/models/reef/plankton")).text + (await visitor.get("/")).text

    assert "ProbeFailed" in page
    assert "12 min ago" in page
    assert ("10.96.0.17" in page, "mlflow.internal" in page) == (sees, sees)
    assert "internal" not in told


@pytest.mark.parametrize("member", [False, True])
async def test_what_the_store_says_of_itself_is_not_for_everybody(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, member: bool
) -> None:
    site.cluster.put(trained(documents=[catalogued.written(tmp_path)]))

    async def refuse(_: Document) -> bytes | None:
        raise RejectedError("object storage", "http://minio.internal:9000: AccessDenied")

    monkeypatch.setattr(site.hub.shelf.documents, "read", refuse)
    async with site.visitor(cookies=signed_in(site) if member else {}) as visitor:
        page = await visitor.get("/models/reef/plankton")
        document = await visitor.get("/models/reef/plankton/model-card.md")

    assert "cannot be shown" in page.text
    assert ("minio.internal" in page.text) == member
    assert document.status_code == 503
    assert "minio.internal" not in document.text


async def test_a_model_whose_card_names_an_image_has_a_description_for_oscar(site: Site) -> None:
    image = f"registry.example/marine/plankton@sha256:{64 * 'c'}"
    async with site.visitor() as visitor:
        absent = await visitor.get("/models/reef/plankton/fdl.yaml")
        site.cluster.put(served(card={"image": image}))
        found = await visitor.get("/models/reef/plankton/fdl.yaml")
        page = (await visitor.get("/models/reef/plankton")).text
        told = (await visitor.get("/api/models/reef/plankton")).json()

    assert absent.status_code == 404
    (service,) = yaml.safe_load(found.text)["functions"]["oscar"]
    assert service["oscar-cluster"]["image"] == image
    assert service["oscar-cluster"]["name"] == "plankton"
    assert service["oscar-cluster"]["script"] == model_image.SCRIPT
    assert f"127.0.0.1:5000:5000 {image}" in page
    assert 'href="/models/reef/plankton/fdl.yaml"' in page
    assert told["image"] == image


async def test_an_image_that_is_not_named_by_its_digest_is_shown_nowhere(site: Site) -> None:
    site.cluster.put(served(card={"image": "registry.example/marine/plankton:latest"}))
    async with site.visitor() as visitor:
        assert (await visitor.get("/models/reef/plankton/fdl.yaml")).status_code == 404
