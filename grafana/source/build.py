#!/usr/bin/env python3
"""Makes the boards of every language from boards.py and the dictionaries. Needs nothing but Python 3.9.

    grafana/source/build.py            writes grafana/dashboards/
    grafana/source/build.py --check    says what differs from it and writes nothing
    grafana/source/build.py --draw     draws how the panels of each board lie
"""

import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import boards  # noqa: E402
import kit  # noqa: E402
import zh_cn  # noqa: E402

OUT = Path(__file__).resolve().parent.parent / "dashboards"


def languages():
    # Folders are told apart by slug, in which Chinese letters do not count.
    return [
        kit.Language("en", "", "Token Monitor", None),
        kit.Language("zh-CN", "-zh", "Token Monitor zh-CN", zh_cn.WORDS),
    ]


def made():
    """Every file: its path below OUT, and its text."""
    files, wrong = {}, []
    for language in languages():
        kit.speak(language)
        for make in boards.ALL:
            found = make()
            name = found["uid"].removeprefix("tm-").removesuffix(language.suffix)
            files[f"{language.folder}/{name}.json"] = json.dumps(found, ensure_ascii=False, indent=1) + "\n"
        wrong += [f"{language.code}: no word for: {text}" for text in sorted(language.missing)]
        if language.words:
            wrong += [f"{language.code}: nobody says: {text}" for text in sorted(set(language.words) - language.asked)]
    if wrong:
        sys.exit("\n".join(wrong))
    return files


def draw(text):
    """A picture of the layout in letters: a line is a grid row, two letters are a grid column."""
    found = json.loads(text)
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in found["panels"])
    canvas = [[" "] * 97 for _ in range(height + 1)]
    for panel in found["panels"]:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        for column in range(4 * x, 4 * (x + w) + 1):
            canvas[y][column] = canvas[y + h][column] = "-"
        for line in range(y, y + h + 1):
            canvas[line][4 * x] = canvas[line][4 * (x + w)] = "|"
        label = f" {panel['title']} ({panel['type']}) "[: 4 * w - 2]
        for offset, letter in enumerate(label):
            canvas[y][4 * x + 1 + offset] = letter
    print(f"\n{found['uid']}: {found['title']}")
    print("\n".join("".join(line) for line in canvas))


def main():
    files, mode = made(), sys.argv[1:]
    there = {str(path.relative_to(OUT)): path for path in OUT.rglob("*.json")}
    if mode == ["--draw"]:
        for text in files.values():
            draw(text)
    elif mode == ["--check"]:
        stale = [name for name, text in files.items() if name not in there or there[name].read_text("utf-8") != text]
        stale += [name for name in there if name not in files]
        if stale:
            sys.exit("Not as the source says, run grafana/source/build.py:\n" + "\n".join(sorted(stale)))
    elif mode:
        sys.exit(__doc__)
    else:
        for name in set(there) - set(files):
            there[name].unlink()
        for name, text in files.items():
            path = OUT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")


main()
