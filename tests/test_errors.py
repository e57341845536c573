"""Every error has an exit code of its own, or its kind's, and a name in the table."""

from __future__ import annotations

from architecture_rules import finer_errors

from edgekit import errors


def test_exit_codes_are_unique() -> None:
    codes = [error.exit_code for error in errors.ERRORS.values()] + [errors.EXIT_BUG, errors.EXIT_INTERRUPTED]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes
    assert 1 not in codes  # Python's own, for an exception nobody caught


def test_every_error_is_in_the_table() -> None:
    assert set(errors.EdgekitError.__subclasses__()) == set(errors.ERRORS.values())


def test_a_finer_error_ends_in_the_exit_code_of_its_kind_and_comes_whole_out_of_another_process() -> None:
    for kind in finer_errors():
        assert kind.exit_code == kind.__bases__[0].exit_code
        assert errors.error_named(kind.__name__) is kind
        assert kind("what", "what to do").hint == "what to do"
        assert kind.__name__ in str(errors.__doc__)
