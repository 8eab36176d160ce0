from model.evaluation.kept import keep, kept, place_of


def test_a_place_is_of_what_is_done_with_which_weights_on_how_much(tmp_path):
    weights, others = tmp_path / "a", tmp_path / "b"
    weights.write_bytes(b"weights")
    others.write_bytes(b"others")

    def place(doing, path, *extent):
        return place_of(tmp_path, doing, files=[path], extent=extent)

    asked = place({"x": 1}, weights, 3, 1)
    assert asked == place({"x": 1}, weights, 3, 1) and asked.parent == tmp_path / "rows"
    assert (
        len({asked, place({"x": 2}, weights, 3, 1), place({"x": 1}, others, 3, 1), place({"x": 1}, weights, 4, 1)}) == 4
    )
    others.write_bytes(b"weights")
    assert asked == place({"x": 1}, others, 3, 1)  # a copy is as good


def test_what_is_kept_comes_back_and_leaves_no_part(tmp_path):
    path = tmp_path / "rows" / "one.json"
    keep(path, {"name": "x"}, {"ms": 1.5, "scores": {"psnr": [1.0, 2.0]}})
    assert kept(path) == {"ms": 1.5, "scores": {"psnr": [1.0, 2.0]}}
    assert list(path.parent.iterdir()) == [path]
