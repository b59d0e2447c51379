# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Writes the field reference of an interface description as scdoc, in the place of a page's line
# "@reference FILE@": awk -v dir=IDL-DIRECTORY -f reference.awk PAGE.scd.in. Every method, type, field and error
# appears with its comment. A type that an earlier interface of the page has in the same words is only named.
# A line that is not understood fails the build: nothing is left out in silence.

function fail(text) {
        print FILENAME ": " file ":" number ": " text >"/dev/stderr"
        failed = 1
        exit 1
}

# Text for scdoc: nothing in it is formatting.
function plain(text) {
        gsub(/[\\*_]/, "\\\\&", text)
        sub(/^[-#.|\[\];]/, "\\\\&", text)
        return text
}

function end_paragraph() {
        if (words != "")
                comment = comment (comment == "" ? "" : "\n\n") words
        words = ""
}

# Adds a line of a comment; a line in brackets is a note about streaming.
function add_comment(text) {
        if (text ~ /^\[.*\]$/) {
                end_paragraph()
                words = (text ~ /Requires/) ? "Needs the flag _more_." : "Takes the flag _more_."
                end_paragraph()
        } else if (text == "")
                end_paragraph()
        else
                words = (words == "") ? plain(text) : words " " escaped(text)
}

function escaped(text) {
        gsub(/[\\*_]/, "\\\\&", text)
        return text
}

function take_comment(indent, result) {
        end_paragraph()
        result = comment
        comment = ""
        gsub(/\n\n/, "\n\n" indent, result)
        return result == "" ? "" : indent result "\n\n"
}

# A member with its comment: "name: type" or a word of an enum.
function member(text, at) {
        sub(/,$/, "", text)
        at = index(text, ":")
        if (at)
                body = body "*" escaped(substr(text, 1, at - 1)) "*: " escaped(substr(text, at + 2)) "\n"
        else
                body = body "*" escaped(text) "*\n"
        if (comment == "" && words == "")
                fail("no comment on " text)
        body = body take_comment("\t")
}

# "a: t, b: t", the inside of a pair of parentheses; empty is "nothing".
function signature(text) {
        return text == "" ? "nothing" : escaped(text)
}

function finish(kind, name) {
        text = "## " name "\n\n" head body
        if (kind == "type" && (name in types) && types[name] == text) {
                repeated = repeated (repeated == "" ? "" : ", ") "_" name "_"
        } else {
                section[kind] = section[kind] text
                if (kind == "type")
                        types[name] = text
        }
        body = head = ""
}

function emit(title, kind, interface) {
        if (section[kind] != "" || (kind == "type" && repeated != ""))
                printf "# %s OF %s\n\n", title, interface
        printf "%s", section[kind]
        if (kind == "type" && repeated != "")
                printf "The types %s are those described above.\n\n", repeated
        section[kind] = ""
}

function reference(name,        line, interface, kind, current, part, m) {
        file = dir "/" name
        number = 0
        repeated = comment = words = body = head = ""
        while ((m = (getline line <file)) > 0) {
                number++
                if (line ~ /^ *#/) {
                        sub(/^ *# ?/, "", line)
                        add_comment(line)
                } else if (line == "") {
                        continue
                } else if (line ~ /^interface /) {
                        interface = substr(line, 11)
                        top = take_comment("")
                } else if (line ~ /^(type|error) [A-Za-z]+ \($/) {
                        split(line, part, " ")
                        kind = part[1]
                        current = part[2]
                        head = take_comment("")
                } else if (line ~ /^method [A-Za-z]+\(.*\) -> \(.*\)$/) {
                        kind = "method"
                        current = line
                        sub(/^method /, "", current)
                        sub(/\(.*/, "", current)
                        split(line, part, /\) -> \(/)
                        sub(/^[^(]*\(/, "", part[1])
                        sub(/\)$/, "", part[2])
                        head = "Takes: " signature(part[1]) ".++\nAnswers: " signature(part[2]) ".\n\n" take_comment("")
                        finish(kind, current)
                        current = ""
                } else if (line ~ /^method [A-Za-z]+\($/) {
                        kind = "method"
                        current = line
                        gsub(/^method |\($/, "", current)
                        head = take_comment("")
                        body = "Takes:\n\n"
                } else if (line == ") -> (" && kind == "method") {
                        body = body "Answers:\n\n"
                } else if (line == ") -> ()" && kind == "method") {
                        body = body "Answers nothing.\n\n"
                        finish(kind, current)
                        current = ""
                } else if (line == ")" && current != "") {
                        finish(kind, current)
                        current = ""
                } else if (line ~ /^  [a-zA-Z]+(: [^ ]+)?,?$/ && current != "") {
                        sub(/^ +/, "", line)
                        member(line)
                } else
                        fail("not understood: " line)
        }
        if (m < 0 || interface == "" || current != "")
                fail("unreadable, or it ends too early")

        printf "# INTERFACE %s\n\n%s", interface, top
        emit("METHODS", "method", interface)
        emit("TYPES", "type", interface)
        emit("ERRORS", "error", interface)
}

/^@reference .*@$/ {
        gsub(/^@reference |@$/, "")
        reference($0)
        next
}
{ print }
END { exit failed }
