"""Owns the reference: of every public name its signature, from engine/__init__.pyi, and its
docstring, from the compiled object.

Neither alone has both: the stub has no text, and a compiled function knows its arguments but not
their types. A name without a docstring, or without a place in PAGES, ends the build.
"""
import ast
import inspect
import re
import textwrap
from pathlib import Path

import engine

STUB = Path(engine.__file__).with_suffix(".pyi")
SOURCE = STUB.read_text()
TREE = ast.parse(SOURCE)
LINE_MAX = 76               # of a signature in one line, as it is shown

# Which names are on which page: its title, and a sentence on top of it.
PAGES = {
    "cache": ("The cache", "Values under keys. [The guide](../cache.md) says how to use it.", ["Cache"]),
    "arenas": (
        "Arenas",
        "Making and opening arenas, and what an engine does.",
        ["create", "open", "attach", "unlink", "Engine", "Crew", "Client", "Lease", "Report", "Problem", "Tended",
         "Garbage"],
    ),
    "pools": (
        "Pools and pages",
        "Pages, objects and values in a pool.",
        ["oid", "Pool", "Object", "ObjectInfo", "View", "Writing", "CONFLICT"],
    ),
    "snapshots": (
        "Snapshots",
        "An arena's pools as a file, and back. [The guide](../snapshots.md) says when.",
        ["restore", "Saved", "Restored"],
    ),
    "errors": (
        "Errors",
        "[What an error means](../caveats.md#what-an-error-means) says what to do about each.",
        sorted(name for name in engine.__all__ if name in vars(engine) and isinstance(getattr(engine, name), type)
               and issubclass(getattr(engine, name), Exception)),
    ),
    "backends": (
        "Back ends",
        "For those who keep pages elsewhere.",
        ["register_pam", "register_hostops", "ARENA_MAGIC"],
    ),
}

# What is no object with a docstring of its own.
CONSTANTS = {
    "ARENA_MAGIC": "The first bytes of every arena's file.",
    "CONFLICT": "What a verb answers whose condition did not hold. It counts as false.",
}
# Of the other classes, a caller gets the objects from a call.
MADE_BY_CALLERS = {"Cache"}


def page_of(name):
    """The page that a public name is on."""
    return next(page for page, (_, _, names) in PAGES.items() if name in names)


# --- the stub -------------------------------------------------------------------------------------


def declared(body):
    """{name: its nodes} of a module or a class of the stub: overloads are several nodes."""
    found = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.AnnAssign):
            found.setdefault(node.target.id, []).append(node)
    return found


def code(node):
    """The stub's text of a node, without what it is indented by."""
    return textwrap.dedent(" " * node.col_offset + ast.get_source_segment(SOURCE, node))


def is_property(node):
    return isinstance(node, ast.FunctionDef) and any(ast.unparse(mark) == "property" for mark in node.decorator_list)


def is_attribute(node):
    return is_property(node) or isinstance(node, ast.AnnAssign)


def signature(node, name=None):
    """How a function is called, or the type of an attribute. name: what to call it, if not as in
    the stub."""
    if is_property(node):
        return f"{node.name}: {ast.unparse(node.returns)}"
    text = code(node)
    if isinstance(node, ast.FunctionDef):
        text = re.sub(r":\s*\.\.\.$", "", text).removeprefix("def ")
        text = re.sub(r"\(\s*self(?:, |,\n\s*(?=\*)|(?=\)))", "(", text, count=1)
        text = re.sub(r"\n    self,(?=\n)", "", text)
        if name:
            text = re.sub(r"^\w+", name, text).removesuffix(" -> None")
        line = re.sub(r"\( | (?=\))", lambda match: match[0].strip(), " ".join(text.split())).replace(",)", ")")
        if len(line) <= LINE_MAX:
            return line
        if max(map(len, text.splitlines())) > LINE_MAX or "(\n" not in text:
            called, arguments, answers = re.fullmatch(r"(\w+\()(.*)(\)(?: -> .*)?)", line).groups()
            one_a_line = re.sub(r", (?=\*|\w+:)", ",\n    ", arguments)
            return f"{called}\n    {one_a_line},\n{answers}"
    return text


MEMBERS = declared(TREE.body)


# --- text -----------------------------------------------------------------------------------------


def doc_of(thing, name):
    """A docstring, as Markdown."""
    text = inspect.getdoc(thing)
    if not text:
        raise LookupError(f"{name} has no docstring, and so no text in the reference")
    text = re.sub(r"(?<!`)([<*])(?!`)", r"\\\1", text)
    return re.sub(r"\b([A-Z]\w+)\.(\w+)\b", linked, text)


def linked(match):
    """Kind.member as a link, if there is such a thing."""
    kind, member = match.groups()
    if kind in engine.__all__ and kind in MEMBERS and isinstance(MEMBERS[kind][0], ast.ClassDef):
        if member in declared(MEMBERS[kind][0].body):
            return f"[{match[0]}]({page_of(kind)}.md#{match[0].lower()})"
    return match[0]


def block(text):
    return f"```python\n{text}\n```\n"


def attribute(kind, node):
    """A line on an attribute of a class: its type, and what it says of itself."""
    name = node.name if is_property(node) else node.target.id
    thing = getattr(kind, name, None)
    text = inspect.isdatadescriptor(thing) and not isinstance(node, ast.AnnAssign) and inspect.getdoc(thing)
    return f"- `{signature(node)}`" + (f": {text}" if text else "")


def of_class(name, node):
    """A class: how it is made, its text, its attributes, and each of its methods."""
    kind = getattr(engine, name)
    members = declared(node.body)
    parts = [f"## {name} {{#{name.lower()}}}", doc_of(kind, name)]
    if issubclass(kind, Exception):
        parts.insert(1, block(f"class {name}({', '.join(map(ast.unparse, node.bases))})"))
    elif name in MADE_BY_CALLERS:
        parts.insert(1, block(signature(members["__init__"][0], name)))
    attributes = [nodes[0] for nodes in members.values() if is_attribute(nodes[0])]
    parts.append("\n".join(attribute(kind, one) for one in attributes))
    for member, nodes in members.items():
        if not is_attribute(nodes[0]) and not member.startswith("_"):
            parts += [
                f"### {name}.{member} {{#{name.lower()}.{member}}}",
                block("\n".join(map(signature, nodes))),
                doc_of(getattr(kind, member), f"{name}.{member}"),
            ]
    return [part for part in parts if part]


def of_name(name):
    """The part of a page that is about one public name."""
    nodes = MEMBERS[name]
    if isinstance(nodes[0], ast.ClassDef):
        return of_class(name, nodes[0])
    if isinstance(nodes[0], ast.FunctionDef):
        text = doc_of(getattr(engine, name), name)
        return [f"## {name} {{#{name.lower()}}}", block("\n".join(map(signature, nodes))), text]
    return [f"## {name} {{#{name.lower()}}}", block(code(nodes[0])), CONSTANTS[name]]


# --- pages ----------------------------------------------------------------------------------------


def index():
    """All names, each with its first sentence, and the names of types that signatures use."""
    parts = ["# Reference\n\nEvery public name of `engine`, which `tmem` has, too: `import tmem` will do as well."]
    for page, (title, _, names) in PAGES.items():
        parts.append(f"## [{title}]({page}.md)")
        lines = []
        for name in names:
            text = CONSTANTS.get(name) or doc_of(getattr(engine, name), name)
            first = re.match(r".*?[.:](?=\s|$)|.*", " ".join(text.split()))[0].rstrip(":.")
            lines.append(f"- [`{name}`]({page}.md#{name.lower()}): {first}.")
        parts.append("\n".join(lines))
    private = "\n".join(code(node) for node in TREE.body if re.match(r"_(?!_)", defined(node)))
    parts += ["## Names of types", "What begins with an underscore is for type checkers alone.", block(private)]
    return "\n\n".join(parts) + "\n"


def defined(node):
    """What a class or an assignment of the stub is called; of anything else, nothing."""
    if isinstance(node, ast.ClassDef):
        return node.name
    if isinstance(node, ast.AnnAssign):
        return node.target.id
    return node.targets[0].id if isinstance(node, ast.Assign) else ""


def pages():
    """{file: Markdown} of the whole reference."""
    found = {"reference/index.md": index()}
    left_out = set(engine.__all__) - {name for _, _, names in PAGES.values() for name in names}
    if left_out:
        raise LookupError(f"{', '.join(sorted(left_out))}: on no page of PAGES in docs/site/reference.py")
    for page, (title, lead, names) in PAGES.items():
        parts = [f"# {title}", lead, *(part for name in names for part in of_name(name))]
        found[f"reference/{page}.md"] = "\n\n".join(parts) + "\n"
    return found
