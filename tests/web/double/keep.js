/** A page that shows scenes is not kept: the browser's cache would come past the double. */
export const keepPage = async () => false;
