"""Small files for tests."""


def written(folder, text, name="e.toml"):
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file
