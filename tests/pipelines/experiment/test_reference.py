"""docs/settings.md is what the declarations say."""

from arae_core.settings.declaration import declarations
from pipelines.experiment.reference import FILE, reference
from pipelines.experiment.settings import Classification


def test_the_settings_reference_is_current() -> None:
    page = FILE.read_text(encoding="utf-8")
    assert page == reference(), "run `python -m pipelines.experiment.reference`"
    assert all(f"| `{name}` |" in page for name in declarations(Classification))
