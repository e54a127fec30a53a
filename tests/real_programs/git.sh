# A clone of the repository that is the argument, a commit, a branch and a merge.
set -eu
export GIT_AUTHOR_DATE='2001-02-03T04:05:06Z' GIT_COMMITTER_DATE='2001-02-03T04:05:06Z'
git config --global user.name somebody
git config --global user.email somebody@localhost
git clone -q "$1" copy
cd copy
git log --format='%h %s'
git checkout -q -b topic
echo more >>file
git commit -q -a -m 'More of it'
git checkout -q -
echo other >other
git add other
git commit -q -m 'Another file'
git merge -q -m 'Both' topic
git fsck --strict 2>&1
git gc -q
git log --oneline --graph
