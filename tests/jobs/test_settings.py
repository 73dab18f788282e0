from pathlib import Path

import pytest

from penstock.engine.tool_calls import ToolFormat
from penstock.jobs.settings import InvalidSetting, Settings


def test_flags_over_environment_over_toml_over_defaults(tmp_path: Path) -> None:
    toml = tmp_path / "penstock.toml"
    toml.write_text('namespace = "toml"\nmax_num_seqs = 8\nlease_s = 2.5\n')
    settings, sources = Settings.load_with_sources(
        toml=toml,
        environ={"PENSTOCK_NAMESPACE": "env", "PENSTOCK_MAX_NUM_SEQS": "16"},
        namespace="flag",
        dtype=None,
    )
    assert (settings.namespace, settings.max_num_seqs, settings.lease_s) == ("flag", 16, 2.5)
    assert settings.dtype == "auto"
    assert sources["namespace"] == "flag"
    assert sources["max_num_seqs"] == "PENSTOCK_MAX_NUM_SEQS"
    assert sources["lease_s"] == str(toml)
    assert sources["dtype"] == "default"


def test_the_environment_may_name_the_toml_file(tmp_path: Path) -> None:
    toml = tmp_path / "penstock.toml"
    toml.write_text('models = ["a", "b"]\n')
    assert Settings.load(environ={"PENSTOCK_CONFIG": str(toml)}).models == ("a", "b")


def test_text_is_brought_to_its_type() -> None:
    settings = Settings.load(
        environ={
            "PENSTOCK_MODELS": " a , b,",
            "PENSTOCK_MAX_MODEL_LEN": "512",
            "PENSTOCK_KV_CACHE_GB": "0.5",
        }
    )
    assert settings.models == ("a", "b")
    assert settings.max_model_len == 512
    assert settings.kv_cache_gb == 0.5


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"PENSTOCK_MAX_NUM_SEQS": "many"}, "max_num_seqs must be a number, got 'many'"),
        ({"PENSTOCK_LEASE_S": "soon"}, r"lease_s .*\(from PENSTOCK_LEASE_S\)"),
        ({"PENSTOCK_LEASE_S": "0.5"}, "lease_s must be at least 2, got 0.5"),
        ({"PENSTOCK_LEASE_S": "-1"}, "lease_s must be at least 2, got -1"),
        ({"PENSTOCK_LEASE_S": "nan"}, "lease_s must be a finite number, got nan"),
        ({"PENSTOCK_GRACE_S": "inf"}, "grace_s must be a finite number, got inf"),
        ({"PENSTOCK_MAX_NUM_SEQS": "0"}, "max_num_seqs must be at least 1, got 0"),
        ({"PENSTOCK_MAX_MODEL_LEN": "0"}, "max_model_len must be at least 1, got 0"),
        ({"PENSTOCK_NUM_THREADS": "-2"}, "num_threads must be at least 1, got -2"),
        ({"PENSTOCK_KV_CACHE_GB": "0"}, "kv_cache_gb must be at least 0.001, got 0"),
        (
            {"PENSTOCK_TOOL_FORMAT": "lama"},
            r"tool_format must be one of auto, hermes, llama, got 'lama' \(from PENSTOCK_TOOL_FO",
        ),
        ({"PENSTOCK_CONFIG": "/nowhere/at.all"}, "cannot read settings from /nowhere/at.all"),
    ],
)
def test_a_bad_value_is_told_with_its_source(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidSetting, match=complaint):
        Settings.load(environ=environ)


@pytest.mark.parametrize("tool_format", ["auto", *ToolFormat])
def test_how_models_write_calls_is_one_of_a_few(tool_format: str) -> None:
    settings = Settings.load(environ={"PENSTOCK_TOOL_FORMAT": tool_format})
    assert settings.tool_format == tool_format


def test_unknown_and_broken_toml_is_refused(tmp_path: Path) -> None:
    toml = tmp_path / "penstock.toml"
    toml.write_text("leash_s = 3\n")
    with pytest.raises(InvalidSetting, match="unknown setting 'leash_s'"):
        Settings.load(toml=toml, environ={})
    toml.write_text("= 3\n")
    with pytest.raises(InvalidSetting, match="cannot read settings"):
        Settings.load(toml=toml, environ={})


def test_a_child_process_gets_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path), models=("a", "b"), lease_s=2.5, max_model_len=99)
    assert Settings.load(environ=settings.to_environ()) == settings


def test_places_in_the_data_directory(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path / "data"))
    assert settings.jobs_dir == tmp_path.resolve() / "data" / "jobs"
    assert settings.results_dir == tmp_path.resolve() / "data" / "results"


def test_only_results_go_to_an_object_store() -> None:
    with pytest.raises(InvalidSetting, match=r"data must be a directory, .* PENSTOCK_RESULTS"):
        Settings.load(environ={"PENSTOCK_DATA": "s3://bucket/x"})
    assert Settings.load(environ={"PENSTOCK_RESULTS": "s3://bucket/x"}).results == "s3://bucket/x"
