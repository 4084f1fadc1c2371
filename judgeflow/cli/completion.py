"""What the shell is offered where an option's values are no fixed list."""

from __future__ import annotations


def setting_names(incomplete: str) -> list[tuple[str, str]]:
    """Return (`section.key=`, what it means) for `--set`."""
    from judgeflow.config import Config, section_type

    sections = {name: section_type(name) for name in Config.model_fields if name != "judges"}
    fields = {f"{name}.{key}=": field for name, section in sections.items() if section for key, field in section.model_fields.items()}
    return [(name, field.description or "") for name, field in fields.items() if name.startswith(incomplete)]


def template_names(incomplete: str) -> list[str]:
    """Return the templates that come with judgeflow; a template of one's own is a file, which the shell completes."""
    from judgeflow.verdicts.prompt import packaged_templates

    return [name for name in packaged_templates() if name.startswith(incomplete)]
