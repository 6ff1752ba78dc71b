"""Classification of the nodes of one graph, few of which are labelled."""
