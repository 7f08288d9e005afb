from __future__ import annotations

from xml.etree import ElementTree as ET

from chromadb_compaction.cli.executions.chart import draw
from demo.picture import PICTURE, picture
from tests.histories import a_failed_execution


def test_the_picture_has_a_row_for_each_state_and_batch() -> None:
    execution, timeline = a_failed_execution(name="<last>", message="no", batches=3)
    assert execution.stopped is not None

    drawn = ET.fromstring(picture(draw(timeline, execution.started, execution.stopped), execution.name))

    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "<last>"
    assert any("MergeBatches" in str(text) for text in texts)
    assert sum("batch 000" in str(text) for text in texts) == 3


def test_the_picture_of_the_readme_is_small_and_well_formed() -> None:
    assert ET.parse(PICTURE).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert PICTURE.stat().st_size < 12_000
