"""The stages of one compile run, each a plain function; `hwprune.compiler` puts them in order."""
