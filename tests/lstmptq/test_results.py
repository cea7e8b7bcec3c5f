import pyarrow as pa
import pytest

from lstmptq.results import CELLS, SCHEMA_VERSION, TABLES, to_table


def test_every_column_is_described():
    for schema in TABLES.values():
        assert all(field.metadata[b"description"] for field in schema)
        assert schema.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()


def test_the_public_columns_are_there():
    """Queries of users stand on these names: renaming one needs a new schema_version."""
    public = """cell_id schema_version dataset model embedding embedding_source embedding_dim seed bits
        internal_bits algorithm class_ratio calibration_documents noise noise_level status error
        accuracy macro_f1 nll ece confusion predicted labels fp32_accuracy accuracy_drop
        float_reference_accuracy parameters eligible_parameters fp32_bytes quantized_bytes
        dead_signal documents observe_seconds correct_seconds evaluate_seconds documents_per_second
        started_at kernel host git_sha versions epochs checkpoint observer io_scales padding isolated_stage
        isolated_how""".split()
    assert set(public) <= set(CELLS.names)
    public = """cell_id tensor kind contrast bits scale zero_point levels_used n documents ks_d ks_location
        ks_sign atom_floor ks_d_dithered p_nominal document_d p_permutation wasserstein sqnr_db
        clip_fraction relative_distance mean_a
        std_a mean_b std_b""".split()
    assert set(public) <= set(TABLES["tensors"].names)
    assert TABLES["predictions"].names == ["cell_id", "labels", "predicted", "margin"]


def test_missing_columns_become_null():
    table = to_table([{"cell_id": "a", "bits": None, "confusion": [[1, 0], [0, 1]]}], CELLS)
    assert table.schema == CELLS
    assert table["accuracy"].to_pylist() == [None]
    assert table["confusion"].type == pa.list_(pa.list_(pa.int32()))


def test_unknown_columns_are_refused():
    with pytest.raises(ValueError, match=r"columns \['acuracy'\] are not in the schema: add them to"):
        to_table([{"acuracy": 1.0}], CELLS)
