"""Serving: models over HTTP, in the shapes that OpenAI's, TEI's and Cohere's clients speak.

command -> running -> app -> gate -> routes -> service -> queue -> worker -> encoder
"""
